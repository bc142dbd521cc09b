//! The parts of answers, however the answers are cut into tokens.

use sconce::text::channels::{Format, Input, Part, Piece, Reader};

use crate::{fixture, random::Random};

const HARMONY: &str = "<|start|>assistant<|channel|>analysis<|message|>";
const THINK: &str = "{{ content.split('</think>') }}";
const HERMES: &str = "<tool_call>\n{\"name\": ";
const MISTRAL: &str = "[TOOL_CALLS] [";
const LLAMA: &str = "<|python_tag|> <|eot_id|> {\"name\": , \"parameters\": }";
const MARKS: [&str; 13] = [
    "<|start|>",
    "<|channel|>",
    "<|constrain|>",
    "<|message|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "[THINK]",
    "[/THINK]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|python_tag|>",
];

/// The format of a template where all of the marks that are control tokens in published models are.
fn format(template: &str) -> Format {
    Format::from_sources(template, template, |mark| MARKS.iter().position(|m| *m == mark).map(|id| id as u32))
}

fn reader(template: &str, prompt: &str, tools: &[&str]) -> Reader {
    let tools: Vec<String> = tools.iter().map(|tool| (*tool).to_owned()).collect();
    format(template).reader(prompt, &tools)
}

/// The answer as its tokens bring it: control tokens whole, the text between them as it is.
fn inputs(answer: &str) -> Vec<Input<'_>> {
    let mut inputs = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        let mark = MARKS.into_iter().filter_map(|mark| Some((rest.find(mark)?, mark))).min();
        let (text, after) = rest.split_at(mark.map_or(rest.len(), |(place, _)| place));
        inputs.extend((!text.is_empty()).then_some(Input::Text(text)));
        inputs.extend(mark.map(|(_, mark)| Input::Marker(mark)));
        rest = &after[mark.map_or(0, |(_, mark)| mark.len())..];
    }
    inputs
}

/// Parts in short: `r` reasoning, `c` content, `f` a call, `a` its arguments, `.` its end.
fn told(pieces: &[Piece]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for piece in pieces {
        let (kind, text) = match &piece.part {
            Part::Silence => continue,
            Part::Reasoning(text) => ('r', text.as_str()),
            Part::Content(text) => ('c', text.as_str()),
            Part::Call { name } => ('f', name.as_str()),
            Part::Arguments(text) => ('a', text.as_str()),
            Part::CallEnd => ('.', ""),
        };
        match told.last_mut() {
            Some(last) if last.starts_with(kind) && ['r', 'c', 'a'].contains(&kind) => last.push_str(text),
            _ => told.push(format!("{kind}{text}")),
        }
    }
    told
}

/// All pieces of an answer. They must cover it: what comes out as content is there byte for byte.
fn read<'a>(mut reader: Reader, inputs: impl IntoIterator<Item = Input<'a>>) -> Vec<Piece> {
    let (mut answer, mut sorted, mut pieces) = (String::new(), 0, Vec::new());
    let mut check = |answer: &str, new: Vec<Piece>| {
        for piece in new {
            let covered = &answer[sorted..sorted + piece.bytes];
            if let Part::Content(text) | Part::Reasoning(text) | Part::Arguments(text) = &piece.part {
                assert!(piece.bytes == 0 || covered == text, "{covered:?} is not {text:?}");
            }
            sorted += piece.bytes;
            pieces.push(piece);
        }
        sorted
    };
    for input in inputs {
        let (Input::Text(text) | Input::Marker(text)) = input;
        answer.push_str(text);
        check(&answer, reader.push(input));
    }
    let sorted = check(&answer, reader.finish());
    assert_eq!(sorted, answer.len(), "all is accounted for");
    pieces
}

/// Reads the answer whole, cut in two at every place, character by character and in pieces by chance.
fn check(template: &str, prompt: &str, tools: &[&str], answer: &str, expected: &[&str]) {
    let reader = reader(template, prompt, tools);
    let inputs = inputs(answer);
    let compare = |cut: Vec<Input<'_>>| {
        let pieces = read(reader.clone(), cut.iter().copied());
        assert_eq!(told(&pieces), expected, "{answer:?} as {cut:?}");
    };
    compare(inputs.clone());
    for (place, input) in inputs.iter().enumerate() {
        let Input::Text(text) = *input else { continue };
        for (at, _) in text.char_indices() {
            let mut cut = inputs.clone();
            let (one, two) = text.split_at(at);
            cut.splice(place..=place, [Input::Text(one), Input::Text(two)]);
            compare(cut);
        }
    }
    let mut random = Random(7);
    for longest in [1, 2, 3, 5, 9, 17] {
        let characters: Vec<Vec<char>> = inputs
            .iter()
            .map(|input| match input {
                Input::Text(text) => text.chars().collect(),
                Input::Marker(_) => vec![],
            })
            .collect();
        let pieces: Vec<Vec<String>> = characters
            .iter()
            .map(|whole| random.cut(whole, longest).iter().map(|piece| piece.iter().collect()).collect())
            .collect();
        let cut = inputs.iter().zip(&pieces).flat_map(|(input, pieces)| match input {
            Input::Text(_) => pieces.iter().map(|piece| Input::Text(piece)).collect(),
            Input::Marker(_) => vec![*input],
        });
        compare(cut.collect());
    }
}

#[test]
fn thinking() {
    for (prompt, answer, expected) in [
        ("", "<think>\nHm, é…\n\nso.\n</think>\n\nYes.\n", &["rHm, é…\n\nso.", "cYes.\n"][..]),
        ("", "\n<think>a</think>b", &["ra", "cb"]),
        // The template has opened it.
        ("<a><think>\n", "Hm.\n</think>\n\nYes.", &["rHm.", "cYes."]),
        ("<a><think>", "</think>Yes.", &["cYes."]),
        // The template has written an empty block.
        ("<a><think>\n\n</think>\n\n", "Yes.", &["cYes."]),
        ("<a>", "<think>\n\n</think>\n\nYes.", &["cYes."]),
        // What the user wrote opens nothing.
        ("What is <think>?<a>", "A tag.", &["cA tag."]),
        ("", "No thoughts: <think>x</think>", &["cNo thoughts: <think>x</think>"]),
        ("", "  \n", &["c  \n"]),
        ("", " <thin", &["c <thin"]),
        ("", " <thing>", &["c <thing>"]),
        ("", "<think>a</think>b<think>c</think>d</think>", &["ra", "cb<think>c</think>d</think>"]),
        ("", "<think>a < b </thinking </ </th ></think>c", &["ra < b </thinking </ </th >", "cc"]),
        // Cut off, inside the reasoning and inside its end.
        ("", "<think>Hm, ", &["rHm,"]),
        ("", "<think>Hm, </thi", &["rHm, </thi"]),
        ("", "<think>", &[]),
        ("<think>", "  ", &[]),
        ("", "", &[]),
        ("", "</think>", &["c</think>"]),
    ] {
        check(THINK, prompt, &[], answer, expected);
    }
    check("<seed:think>", "", &[], "<seed:think>a</think></seed:think>b", &["ra</think>", "cb"]);
    check("[THINK]", "", &[], "[THINK]a[/THINK]b", &["ra", "cb"]);
}

#[test]
fn without_marks_in_the_template_all_is_content() {
    let answer = " <think>a</think><tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> ";
    for template in ["", "{{ messages }}", HERMES, LLAMA] {
        let format = format(template);
        assert_eq!(format.has_calls(), !["", "{{ messages }}"].contains(&template));
        // No tools, so no calls.
        let pieces = read(format.reader("", &[]), [Input::Text(answer)]);
        assert_eq!(pieces, [Piece { bytes: answer.len(), part: Part::Content(answer.to_owned()) }]);
    }
    // Tags for something else than JSON are not understood, rather than misunderstood.
    for template in ["<tool_call><function=f>", "<tool_call>f<arg_key>"] {
        assert!(!format(template).has_calls(), "{template}");
    }
    // The channels need control tokens.
    assert!(!Format::from_sources(HARMONY, HARMONY, |_| None).has_calls());
}

#[test]
fn harmony() {
    let prompt = "<|start|>user<|message|>a<|start|>b<|end|><|start|>assistant";
    for (answer, expected) in [
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
            &["rHm.", "cYes."][..],
        ),
        ("<|channel|>final<|message|> Yes.\n<|return|>", &["c Yes.\n"]),
        (
            "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>analysis<|message|>Two.<|end|>",
            &["rOne.\n\nTwo."],
        ),
        // What is said before a call, and the call.
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>\
             <|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>{\"a\": \"é\"}<|call|>",
            &["rHm.", "cI look.", "flook", "a{\"a\": \"é\"}", "."],
        ),
        // The recipient may stand by the role.
        (" to=functions.look<|channel|>commentary json<|message|>{}<|call|>", &["flook", "a{}", "."]),
        ("<|channel|>analysis to=functions.look<|message|>{}<|call|>", &["flook", "a{}", "."]),
        ("<|channel|>commentary to=browser.search<|message|>{}<|call|>", &["fbrowser.search", "a{}", "."]),
        ("<|channel|>commentary to=functions.look<|message|><|call|>", &["flook", "a{}", "."]),
        (
            "<|channel|>commentary to=functions.a<|message|>{}<|call|><|start|>assistant<|channel|>commentary \
             to=functions.b<|message|>[]<|call|>",
            &["fa", "a{}", ".", "fb", "a[]", "."],
        ),
        // Marks that models leave out.
        ("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Yes.", &["rHm.", "cYes."]),
        (
            "<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Yes.",
            &["rHm.", "cYes."],
        ),
        ("<|message|>Yes.<|return|>", &["cYes."]),
        // Cut off: in reasoning, in content, in arguments, in a header.
        ("<|channel|>analysis<|message|>Hm", &["rHm"]),
        ("<|channel|>final<|message|>Ye", &["cYe"]),
        ("<|channel|>commentary to=functions.look<|message|>{\"a", &["flook", "a{\"a", "."]),
        ("<|channel|>comm", &[]),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant", &["rHm."]),
        ("<|channel|>", &[]),
        ("", &[]),
        ("<|return|>", &[]),
        ("<|end|><|start|><|start|>assistant<|end|>", &[]),
        // Not the format: content as it was written.
        ("Yes.<|return|>", &["cYes."]),
        ("Yes.", &["cYes."]),
        ("<|channel|>poetry<|message|>O!<|end|>", &["c<|channel|>poetry<|message|>O!"]),
        ("<|channel|>final<|end|>", &["c<|channel|>final"]),
        ("<|channel|>final<|message|>a<|constrain|>b<|message|>c<|return|>", &["cabc"]),
        ("<|channel|>final<|message|>a<|end|>b", &["cab"]),
        (
            "<|channel|>final<|message|>a<|end|><|start|>user<|message|>b<|end|>",
            &["ca\n\n<|start|>user<|message|>b"],
        ),
        ("<|channel|>commentary to= <|message|>a<|end|>", &["c<|channel|>commentary to= <|message|>a"]),
    ] {
        check(HARMONY, prompt, &["look"], answer, expected);
    }
    // Without tools nothing is called.
    check(
        HARMONY,
        prompt,
        &[],
        "<|channel|>commentary to=functions.f<|message|>{}<|call|>",
        &["c<|channel|>commentary to=functions.f<|message|>{}"],
    );
    // The prompt has begun the message.
    let begun = format!("{prompt}<|channel|>final<|message|>");
    check(HARMONY, &begun, &[], "Yes.<|return|>", &["cYes."]);
    check(HARMONY, &format!("{prompt}<|channel|>ana"), &[], "lysis<|message|>Hm.", &["rHm."]);
}

#[test]
fn hermes() {
    for (answer, expected) in [
        (
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}</tool_call>\\\"\", \"b\": [{}]}}\n</tool_call>",
            &["ff", "a{\"a\": \"}</tool_call>\\\"\", \"b\": [{}]}", "."][..],
        ),
        (
            "I look.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\
             {\"arguments\": {\"é\": 1}, \"name\": \"g\"}</tool_call>\n",
            &["cI look.", "ff", "a{}", ".", "fg", "a{\"é\": 1}", "."],
        ),
        // Whatever the order, whatever else is in it.
        (
            "<tool_call>{\"type\": \"function\", \"id\": 1e3, \"name\": \"f\\u00e9\", \"arguments\": {}, \"x\": [null]}</tool_call>",
            &["ffé", "a{}", "."],
        ),
        ("<tool_call>{\"name\": \"f\"}</tool_call>", &["ff", "a{}", "."]),
        ("<tool_call>{\"name\": \"f\", \"arguments\": null }</tool_call>", &["ff", "a{}", "."]),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>",
            &["ff", "a{\"a\": 1}", "."],
        ),
        ("<tool_call>{\"name\": \"f\", \"arguments\": \"\"}</tool_call>", &["ff", "a{}", "."]),
        // The end may be missing, or more than the end.
        ("<tool_call>{\"name\": \"f\", \"arguments\": {}}", &["ff", "a{}", "."]),
        ("<tool_call>{\"name\": \"f\", \"arguments\": {}</tool_call>", &["ff", "a{}", "."]),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1</tool_call> b",
            &["ff", "a{\"a\": 1", ".", "c b"],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}}</tool_call>",
            &["ff", "a{}", ".", "c}</tool_call>"],
        ),
        ("<tool_call>{\"name\": \"f\", \"arguments\": {}} </tool", &["ff", "a{}", "."]),
        ("<tool_call>{\"name\": \"f\", \"arguments\": {}} </tools>", &["ff", "a{}", ".", "c </tools>"]),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}<tool_call>{\"name\": \"g\", \"arguments\": {}}",
            &["ff", "a{}", ".", "fg", "a{}", "."],
        ),
        // Cut off: in the arguments it is a call, before them it is none.
        ("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x", &["ff", "a{\"a\": \"x", "."]),
        ("a <tool_call>\n{\"name\": \"f\", \"argum", &["ca <tool_call>\n{\"name\": \"f\", \"argum"]),
        ("a <tool_", &["ca <tool_"]),
        ("a \n", &["ca \n"]),
        (" \n", &["c \n"]),
        // No call.
        ("<tool_call>f(1)</tool_call>", &["c<tool_call>f(1)</tool_call>"]),
        ("<tool_call>{\"nom\": \"f\"}</tool_call>", &["c<tool_call>{\"nom\": \"f\"}</tool_call>"]),
        ("<tool_call>{\"name\": 1, \"arguments\": {}}", &["c<tool_call>{\"name\": 1, \"arguments\": {}}"]),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}",
            &["c<tool_call>{\"name\": \"f\", \"arguments\": [1]}"],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": 1}",
            &["c<tool_call>{\"name\": \"f\", \"arguments\": 1}"],
        ),
        (
            "<tool_call>{\"name\": \"\", \"arguments\": {}}",
            &["c<tool_call>{\"name\": \"\", \"arguments\": {}}"],
        ),
        ("<tool_call>{name: \"f\"}", &["c<tool_call>{name: \"f\"}"]),
        (
            "<tool_call> <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
            &["c<tool_call> ", "ff", "a{}", "."],
        ),
        ("{\"name\": \"f\", \"arguments\": {}}", &["c{\"name\": \"f\", \"arguments\": {}}"]),
    ] {
        check(HERMES, "", &["f"], answer, expected);
    }
    // Behind reasoning, whose own calls are only thought of.
    check(
        &format!("{THINK}{HERMES}"),
        "<think>\n",
        &["f"],
        "<tool_call>?</think>\n\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
        &["r<tool_call>?", "ff", "a{}", "."],
    );
}

#[test]
fn mistral() {
    assert!(format(MISTRAL).has_short_call_ids());
    for (answer, expected) in [
        (
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": [1]}, \"id\": \"abc\"}, {\"name\": \"g\", \"arguments\": {}}]",
            &["ff", "a{\"a\": [1]}", ".", "fg", "a{}", "."][..],
        ),
        ("I look. [TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]", &["cI look.", "ff", "a{}", "."]),
        (
            "[TOOL_CALLS]f[ARGS]{\"a\": \"[\"}[TOOL_CALLS]g_1[CALL_ID]x1[ARGS]{}",
            &["ff", "a{\"a\": \"[\"}", ".", "fg_1", "a{}", "."],
        ),
        ("[TOOL_CALLS]f{\"a\": 1} ", &["ff", "a{\"a\": 1}", "."]),
        ("[TOOL_CALLS]{\"name\": \"f\", \"arguments\": {}}", &["ff", "a{}", "."]),
        ("[TOOL_CALLS]f[ARGS]{\"a", &["ff", "a{\"a", "."]),
        ("[TOOL_CALLS]f[AR", &["c[TOOL_CALLS]f[AR"]),
        ("[TOOL_CALLS] [", &["c[TOOL_CALLS] ["]),
        ("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, ", &["ff", "a{}", "."]),
        ("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, oh", &["ff", "a{}", ".", "c, oh"]),
        ("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}] and", &["ff", "a{}", ".", "c and"]),
        ("[TOOL_CALLS] none", &["c[TOOL_CALLS] none"]),
        ("[TOOL_CALLS] f g", &["c[TOOL_CALLS] f g"]),
        ("[TOOL_CALLS]f[CALL_ID][ARGS]{}", &["c[TOOL_CALLS]f[CALL_ID][ARGS]{}"]),
        ("[TOOL_CALLS]f[ARGS][ARGS]{}", &["c[TOOL_CALLS]f[ARGS][ARGS]{}"]),
        ("[TOOL_CALLS]f[CALL_ID]{}", &["c[TOOL_CALLS]f[CALL_ID]{}"]),
        ("[TOOL_CALLS] []", &["c"]),
    ] {
        let expected: &[&str] = if expected == ["c"] { &[] } else { expected };
        check(MISTRAL, "", &["f"], answer, expected);
    }
}

#[test]
fn llama() {
    for (answer, expected) in [
        ("{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}", &["ff", "a{\"a\": \"b\"}", "."][..]),
        (
            "\n{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"f\", \"parameters\": {}}",
            &["ff", "a{}", ".", "ff", "a{}", "."],
        ),
        ("<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", &["ff", "a{}", "."]),
        ("{\"parameters\": {}, \"name\": \"f\"}", &["ff", "a{}", "."]),
        // JSON that is an answer.
        ("{\"name\": \"Ada\", \"parameters\": {}}", &["c{\"name\": \"Ada\", \"parameters\": {}}"]),
        ("{\"parameters\": {}, \"name\": \"Ada\"}", &["c{\"parameters\": {}, \"name\": \"Ada\"}"]),
        ("{\"name\": \"f\"}", &["c{\"name\": \"f\"}"]),
        ("{\"age\": 3}", &["c{\"age\": 3}"]),
        ("{}", &["c{}"]),
        ("{\"name\": \"f", &["c{\"name\": \"f"]),
        ("Yes: {\"name\": \"f\", \"parameters\": {}}", &["cYes: {\"name\": \"f\", \"parameters\": {}}"]),
        ("<|python_tag|>f.call(a=1)", &["c<|python_tag|>f.call(a=1)"]),
        ("{\"name\": \"f\", \"parameters\": {}}; or", &["ff", "a{}", ".", "c; or"]),
        ("{\"name\": \"f\", \"parameters\": {}} Done.", &["ff", "a{}", ".", "c Done."]),
    ] {
        check(LLAMA, "", &["f"], answer, expected);
    }
}

#[test]
fn templates_tell_the_format() {
    for (name, reasoning, calls) in [
        ("chatml", None, None),
        ("chatml_tools", Some("<think>"), Some("hermes")),
        ("deepseek", Some("<think>"), None),
        ("gemma", None, None),
        ("harmony", Some("harmony"), Some("harmony")),
        ("llama3", None, Some("llama")),
        ("mistral", None, Some("mistral")),
        ("phi", None, None),
    ] {
        let source = std::fs::read_to_string(fixture(&format!("templates/{name}.jinja"))).unwrap();
        let format = format(&source);
        assert_eq!((format.reasoning(), format.tool_calls()), (reasoning, calls), "{name}");
    }
}

/// Any text at all: nothing is lost, and it does not matter how it was cut.
#[test]
fn whatever_a_model_writes() {
    let mut random = Random(11);
    let words = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\"name\"",
        "\"arguments\"",
        ":",
        ",",
        "\"f\"",
        " ",
        "\n",
        "a",
        "é",
        "\\",
        "<",
        "1",
        "{\"name\": \"f\", \"arguments\": {",
        "[TOOL_CALLS]",
        "[ARGS]",
        "f",
        ";",
        "<|python_tag|>",
        "<|channel|>",
        "<|message|>",
        "<|end|>",
        "<|start|>",
        "final",
        "analysis",
        "assistant",
        " to=functions.f",
        "<|call|>",
    ];
    let templates = [HARMONY, THINK, HERMES, MISTRAL, LLAMA, &format!("{THINK}{HERMES}")];
    let openings = [
        "<think>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {",
        "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {",
        "[TOOL_CALLS]f[ARGS]{",
        "{\"name\": \"f\", \"arguments\": {",
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<|start|>assistant<|channel|>commentary to=functions.f<|message|>",
    ];
    let mut parts = [0; 4];
    for _ in 0..4000 {
        let opening = *random.pick(&openings);
        let mut answer = if random.below(2) == 0 { opening.to_owned() } else { String::new() };
        for _ in 0..random.below(24) {
            let word = *random.pick(&words);
            answer.push_str(word);
        }
        let template = *random.pick(&templates);
        let whole = read(reader(template, "", &["f"]), inputs(&answer));
        let pieces: Vec<String> = inputs(&answer)
            .iter()
            .flat_map(|input| match input {
                Input::Text(text) => text.chars().map(String::from).collect(),
                Input::Marker(mark) => vec![(*mark).to_owned()],
            })
            .collect();
        let cut = pieces.iter().map(|piece| match MARKS.contains(&piece.as_str()) {
            true => Input::Marker(piece),
            false => Input::Text(piece),
        });
        let expected = told(&whole);
        assert_eq!(told(&read(reader(template, "", &["f"]), cut)), expected, "{answer:?}");
        for (count, kind) in parts.iter_mut().zip(['r', 'c', 'f', 'a']) {
            *count += usize::from(expected.iter().any(|part| part.starts_with(kind)));
        }
    }
    assert!(
        parts.iter().all(|count| *count > 100),
        "{parts:?} answers with reasoning, content, calls, arguments"
    );
}
