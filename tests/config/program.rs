//! The program: its commands, what they print and their exit statuses.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

fn command(directory: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
    command.args(arguments).env_clear().envs(env.iter().copied()).current_dir(directory);
    command
}

pub(crate) fn run_in(directory: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Run {
    let output = command(directory, arguments, env).output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(arguments: &[&str]) -> Run {
    run_in(tempfile::tempdir().unwrap().path(), arguments, &[])
}

#[test]
fn check_config_tells_what_would_be_served() {
    let one = run(&["check-config", "--listen", "127.0.0.1:1", "--listen", "unix:/run/s"]);
    assert_eq!(one.out, "configuration ok: 1 model: gpt-oss-20b; listening on 127.0.0.1:1, unix:/run/s\n");
    assert_eq!((one.status, one.err.as_str()), (0, ""));
    let two = run(&["check-config", "--set", "models.b.top_p=1", "--set", "models.a.top_p=1"]);
    assert_eq!(two.out, "configuration ok: 2 models: b, a; listening on 127.0.0.1:8000\n");
}

#[test]
fn check_config_tells_all_problems() {
    let run = run(&["check-config", "--set", "max_tokens=x", "--backend", "vllm", "--config", "absent.toml"]);
    assert_eq!((run.status, run.out.as_str()), (78, ""));
    let lines: Vec<_> = run.err.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert_eq!(lines[0], "sconce: 3 problems in the configuration");
    assert_eq!(lines[1], "absent.toml: does not exist");
    assert_eq!(lines[2], "--backend: backend: unknown backend \"vllm\"; this build has: echo, candle, proxy");
}

#[test]
fn warnings_are_told_beside_the_answer() {
    let run = run_in(tempfile::tempdir().unwrap().path(), &["check-config"], &[("APP_APIKEY", "x")]);
    assert_eq!(run.status, 0);
    assert!(run.out.starts_with("configuration ok"));
    assert!(run.err.starts_with("sconce: warning: environment variable APP_APIKEY: "), "{}", run.err);
}

#[test]
fn dotenv_is_read_from_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(".env"), "APP_MODEL_ID=of-dotenv").unwrap();
    assert!(run_in(directory.path(), &["check-config"], &[]).out.contains("of-dotenv"));
}

#[test]
fn each_flag_sets_its_key() {
    let rows = [
        ("--listen", "a:1", "listen = [\"a:1\"]  # from --listen"),
        ("--backend", "echo", "backend = \"echo\"  # from --backend"),
        ("--model-id", "007", "model_id = \"007\"  # from --model-id"),
        ("--api-key-file", "f", "keys_file = \"f\"  # from --api-key-file"),
        ("--log-level", "debug", "level = \"debug\"  # from --log-level"),
        ("--set", "max_tokens=3", "max_tokens = 3  # from --set"),
    ];
    for (flag, value, line) in rows {
        for arguments in
            [["print-config", "--with-sources", flag, value], [flag, value, "print-config", "--with-sources"]]
        {
            let run = run(&arguments);
            assert!(run.out.lines().any(|printed| printed == line), "{arguments:?}: {} {}", run.out, run.err);
        }
    }
}

#[test]
fn flags_before_and_after_the_command_add_up() {
    let run = run(&["--set", "max_tokens=3", "--set", "top_p=0.1", "print-config", "--set", "max_tokens=4"]);
    assert!(run.out.contains("max_tokens = 4\n") && run.out.contains("top_p = 0.1\n"), "{}", run.out);
}

#[test]
fn what_is_printed_can_be_read_again() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, reads) in [
        (vec!["--set", "auth.keys=a,b", "--set", "temperature=1", "--listen", "unix:/x"], "gpt-oss-20b"),
        (vec!["--set", "models.\"org/a b\".max_tokens=3", "--set", "models.c.echo.delay_ms=2"], "org/a b, c"),
    ] {
        for extra in [None, Some("--with-sources")] {
            let arguments = [vec!["print-config"], arguments.clone(), extra.into_iter().collect()].concat();
            let first = run_in(directory.path(), &arguments, &[]);
            fs::write(directory.path().join("printed.toml"), &first.out).unwrap();
            let check = run_in(directory.path(), &["check-config", "--config", "printed.toml"], &[]);
            assert_eq!(check.status, 0, "{}\n{}", check.err, first.out);
            assert!(check.out.contains(reads), "{}", check.out);
            let again = run_in(directory.path(), &["print-config", "--config", "printed.toml"], &[]);
            let values = |text: &str| {
                let lines = text.lines().map(|line| line.split("  # from").next().unwrap().to_owned());
                lines.filter(|line| !line.contains("keys = ")).collect::<Vec<_>>()
            };
            assert_eq!(values(&first.out), values(&again.out));
        }
    }
}

#[test]
fn secrets_are_printed_as_a_comment() {
    let run = run(&["print-config", "--set", "auth.keys=a,b"]);
    assert!(run.out.contains("\n# keys = [\"[secret]\", \"[secret]\"]\n"), "{}", run.out);
    assert!(run.err.contains("warning: --set: auth.keys: other users"), "{}", run.err);
}

#[test]
fn version() {
    let run = run(&["--version"]);
    let version = concat!("sconce ", env!("CARGO_PKG_VERSION"));
    match option_env!("SCONCE_REVISION") {
        Some(revision) if !revision.is_empty() => assert_eq!(run.out, format!("{version} ({revision})\n")),
        _ => assert_eq!(run.out, format!("{version}\n")),
    }
    assert_eq!(run.status, 0);
}

#[test]
fn usage() {
    for arguments in [vec!["--nothing"], vec!["nothing"], vec!["--listen"], vec!["completions", "nothing"]] {
        let run = run(&arguments);
        assert_eq!((run.status, run.out.as_str()), (64, ""), "{arguments:?}");
        assert!(run.err.starts_with("error: "), "{}", run.err);
    }
    let help = run(&["--help"]);
    assert_eq!(help.status, 0);
    for word in ["check-config", "print-config", "--api-key-file", "--set <KEY=VALUE>"] {
        assert!(help.out.contains(word), "{word}");
    }
}

#[test]
fn completions_and_the_manual_page_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = run(&["completions", shell]);
        assert_eq!(run.status, 0);
        assert!(run.out.contains("check-config") && run.out.contains("api-key-file"), "{shell}");
    }
    let page = run(&["man"]);
    assert_eq!(page.status, 0);
    assert!(page.out.contains(".TH sconce 1") && page.out.contains("check\\-config"), "{}", page.out);
}

#[test]
fn the_reference_in_each_format() {
    assert!(run(&["print-config-reference"]).out.starts_with("<!--"));
    assert!(run(&["print-config-reference", "--format", "toml"]).out.contains("#max_tokens = 512"));
    let json = run(&["print-config-reference", "--format", "json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["properties"]["server"]["properties"]["listen"]["default"][0], "127.0.0.1:8000");
}

#[test]
fn the_openapi_document_has_the_prefix() {
    let run = run(&["print-openapi", "--set", "api_prefix=/elsewhere"]);
    assert_eq!(run.status, 0);
    assert!(run.out.contains("/elsewhere"), "{}", run.out);
}

#[test]
fn output_that_cannot_be_written_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output =
        command(directory.path(), &["print-config"], &[]).stdout(Stdio::from(full)).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
}
