//! The hub's answers (huggingface.co as `huggingface_hub` knows it): the API's lists of files, `resolve` with redirections
//! and `X-` headers, and a second port for large files, which takes links without a token. Faults are put in on demand.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const TOKEN: &str = "hf_good";
/// Larger files are in large file storage.
const LARGE: usize = 4096;
const PIECE: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    /// For those with [`TOKEN`]; others are told that it does not exist.
    Private,
    /// The same, but others are told to ask.
    Gated,
}

#[derive(Debug, Clone)]
struct Repo {
    access: Access,
    commit: String,
    files: BTreeMap<String, Vec<u8>>,
    /// A file that is listed and is not there.
    hidden: Option<String>,
}

/// Which requests go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The list of files.
    List,
    /// The description of a file.
    Head,
    /// A large file's bytes.
    Bytes,
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Status(u16, &'static str),
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// Nothing comes after them.
    Stall(usize),
    /// The file begins anew, whatever was asked for.
    Whole,
    /// The file as it should be but for one bit.
    Flipped,
}

#[derive(Default)]
struct State {
    repos: Mutex<BTreeMap<String, Repo>>,
    faults: Mutex<Vec<(At, usize, Fault)>>,
    /// `METHOD /path range`, as they came.
    seen: Mutex<Vec<String>>,
    /// Requests with a token where none belongs.
    leaked: AtomicBool,
    /// Pause after each piece of a large file.
    pause: Mutex<Duration>,
    large: Mutex<String>,
    /// Requests and pieces so far.
    steps: AtomicUsize,
    ended: AtomicBool,
}

/// The hub; it ends with this value.
pub(crate) struct FakeHub {
    pub(crate) address: SocketAddr,
    large: SocketAddr,
    state: Arc<State>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

impl FakeHub {
    pub(crate) fn start() -> Self {
        let state = Arc::new(State::default());
        let serve = |answer: fn(&State, &Request, &mut TcpStream) -> std::io::Result<()>| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let state = Arc::clone(&state);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if state.ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let (state, mut stream) = (Arc::clone(&state), stream.unwrap());
                    // A client that leaves is no matter of ours.
                    thread::spawn(move || {
                        drop(Request::read(&stream).map(|it| answer(&state, &it, &mut stream)))
                    });
                }
            });
            address
        };
        let (address, large) = (serve(hub), serve(large));
        *state.large.lock().unwrap() = format!("http://{large}");
        Self { address, large, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a repository of these files; the result is its commit.
    pub(crate) fn publish_files(
        &self,
        repo: &str,
        access: Access,
        files: BTreeMap<String, Vec<u8>>,
    ) -> String {
        let mut hash = Sha1::new();
        for (name, bytes) in &files {
            hash.update(format!("{name}\0{}\0", bytes.len()));
            hash.update(bytes);
        }
        let commit = hexadecimal(&hash.finalize());
        let made = Repo { access, commit: commit.clone(), files, hidden: None };
        self.state.repos.lock().unwrap().insert(repo.to_owned(), made);
        commit
    }

    /// The next `times` such requests go wrong.
    pub(crate) fn fault(&self, at: At, times: usize, fault: Fault) {
        self.state.faults.lock().unwrap().push((at, times, fault));
    }

    pub(crate) fn pause(&self, pause: Duration) {
        *self.state.pause.lock().unwrap() = pause;
    }

    pub(crate) fn hide(&self, repo: &str, file: &str) {
        self.state.repos.lock().unwrap().get_mut(repo).unwrap().hidden = Some(file.to_owned());
    }

    /// Grows with each request and each piece of a large file.
    pub(crate) fn steps(&self) -> usize {
        self.state.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        assert!(!self.state.leaked.load(Ordering::Relaxed), "another host was shown the token");
        std::mem::take(&mut *self.state.seen.lock().unwrap())
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        // The accept loops look when somebody comes.
        for address in [self.address, self.large] {
            drop(TcpStream::connect(address));
        }
    }
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Some(Self { method, path, headers: headers.collect() })
    }

    fn range(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

impl State {
    fn note(&self, request: &Request) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        let range = request.headers.get("range").map(|range| format!(" {range}")).unwrap_or_default();
        self.seen.lock().unwrap().push(format!("{} {}{range}", request.method, request.path));
    }

    fn fault(&self, at: At) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, times, fault) = faults.iter_mut().find(|(where_, times, _)| *where_ == at && *times > 0)?;
        *times -= 1;
        Some(fault.clone())
    }
}

fn answer(to: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Status\r\nconnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !headers.iter().any(|(name, _)| *name == "content-length") {
        let _ = write!(head, "content-length: {}\r\n", body.len());
    }
    to.write_all(head.as_bytes())?;
    to.write_all(b"\r\n")?;
    to.write_all(body)
}

fn error(to: &mut TcpStream, status: u16, code: &str, message: &str) -> std::io::Result<()> {
    let body = json!({ "error": message }).to_string();
    let mut headers = vec![("x-error-message", message), ("content-type", "application/json")];
    if !code.is_empty() {
        headers.push(("x-error-code", code));
    }
    answer(to, status, &headers, body.as_bytes())
}

fn hub(state: &State, request: &Request, to: &mut TcpStream) -> std::io::Result<()> {
    state.note(request);
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<String> = path
        .trim_start_matches('/')
        .split('/')
        .map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (repo, rest) = match &parts[..] {
        ["api", "models", org, name, rest @ ..] => (format!("{org}/{name}"), rest),
        ["api", "resolve-cache", "models", org, name, rest @ ..] => (format!("{org}/{name}"), rest),
        [org, name, rest @ ..] => (format!("{org}/{name}"), rest),
        _ => return error(to, 404, "", "no such page"),
    };
    let at = if request.method == "HEAD" { At::Head } else { At::List };
    if let Some(Fault::Status(status, retry)) = state.fault(at) {
        let retry: &[(&str, &str)] = if retry.is_empty() { &[] } else { &[("retry-after", retry)] };
        return answer(to, status, retry, b"");
    }
    let token = request.headers.get("authorization").map(String::as_str);
    let known = token == Some(&format!("Bearer {TOKEN}"));
    if token.is_some_and(|token| !token.starts_with("Bearer hf_")) {
        return error(to, 401, "", "Invalid credentials in Authorization header");
    }
    let found = state.repos.lock().unwrap().get(&repo).cloned();
    let Some(found) = found.filter(|found| found.access != Access::Private || known) else {
        let status = if token.is_some() { 404 } else { 401 };
        return error(to, status, "RepoNotFound", "Repository not found");
    };
    // A gated repository tells its files to everybody.
    let listed = parts[0] == "api" && parts[1] == "models";
    if found.access == Access::Gated && !known && !listed {
        let status = if token.is_some() { 403 } else { 401 };
        return error(to, status, "GatedRepo", "Access to this model is restricted");
    }
    let is_known = |revision: &str| ["main", "v1", "refs/pr/1", &found.commit].contains(&revision);
    match rest {
        ["revision" | "tree", revision] if !is_known(revision) => {
            error(to, 404, "RevisionNotFound", "Invalid rev id")
        }
        ["revision", _] => {
            let siblings: Vec<Value> = found.files.keys().map(|name| json!({ "rfilename": name })).collect();
            let body = json!({ "id": repo, "modelId": repo, "sha": found.commit, "siblings": siblings, "private": false });
            answer(to, 200, &[("content-type", "application/json")], body.to_string().as_bytes())
        }
        ["tree", _] => {
            let file = |(name, bytes): (&String, &Vec<u8>)| {
                let mut file =
                    json!({ "type": "file", "path": name, "size": bytes.len(), "oid": git(bytes) });
                if bytes.len() > LARGE {
                    file["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 130 });
                }
                file
            };
            let body = Value::from(found.files.iter().map(file).collect::<Vec<_>>());
            answer(to, 200, &[("content-type", "application/json")], body.to_string().as_bytes())
        }
        ["resolve", revision, ..] if !is_known(revision) => {
            error(to, 404, "RevisionNotFound", "Invalid rev id")
        }
        ["resolve", _, name @ ..] => resolve(state, &repo, &found, &name.join("/"), to),
        [commit, name @ ..] if **commit == found.commit => {
            let Some(bytes) = found.files.get(&name.join("/")) else {
                return error(to, 404, "EntryNotFound", "Entry not found");
            };
            let (etag, length) = (format!("\"{}\"", git(bytes)), bytes.len().to_string());
            let headers = [("etag", &*etag), ("x-repo-commit", &found.commit), ("content-length", &length)];
            answer(to, 200, &headers, if request.method == "HEAD" { b"" } else { bytes })
        }
        _ => error(to, 404, "", "no such page"),
    }
}

/// Small files are a redirection away on the same host, large ones on another.
fn resolve(state: &State, repo: &str, found: &Repo, name: &str, to: &mut TcpStream) -> std::io::Result<()> {
    let Some(bytes) = found.files.get(name).filter(|_| found.hidden.as_deref() != Some(name)) else {
        let body = json!({ "error": "Entry not found" }).to_string();
        let headers = [("x-error-code", "EntryNotFound"), ("x-repo-commit", &*found.commit)];
        return answer(to, 404, &headers, body.as_bytes());
    };
    if bytes.len() <= LARGE {
        let near = format!("/api/resolve-cache/models/{repo}/{}/{name}", found.commit);
        let headers = [("location", &*near), ("x-repo-commit", &found.commit)];
        return answer(to, 307, &headers, b"");
    }
    let far = format!("{}/{repo}/{name}?signature=x", state.large.lock().unwrap());
    let (etag, length) = (format!("\"{}\"", sha256(bytes)), bytes.len().to_string());
    let headers = [
        ("location", &*far),
        ("x-repo-commit", &found.commit),
        ("x-linked-etag", &etag),
        ("x-linked-size", &length),
        ("etag", "\"of-the-redirection\""),
    ];
    answer(to, 302, &headers, b"")
}

fn large(state: &State, request: &Request, to: &mut TcpStream) -> std::io::Result<()> {
    state.note(request);
    if request.headers.contains_key("authorization") {
        state.leaked.store(true, Ordering::Relaxed);
    }
    let path = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let parts: Vec<&str> = path.splitn(3, '/').collect();
    let [org, name, file] = parts[..] else { return answer(to, 404, &[], b"") };
    let repo = state.repos.lock().unwrap().get(&format!("{org}/{name}")).cloned();
    let Some(mut bytes) = repo.and_then(|repo| repo.files.get(file).cloned()) else {
        return answer(to, 404, &[], b"");
    };
    let fault = state.fault(At::Bytes);
    if let Some(Fault::Status(status, _)) = fault {
        return answer(to, status, &[], b"");
    }
    if let Some(Fault::Flipped) = fault {
        *bytes.last_mut().unwrap() ^= 1;
    }
    let start = request.range().filter(|_| !matches!(fault, Some(Fault::Whole))).unwrap_or(0);
    let (length, all) = (bytes.len().saturating_sub(start).to_string(), bytes.len());
    if start >= all {
        return answer(to, 416, &[("content-range", &format!("bytes */{all}"))], b"");
    }
    let range = format!("bytes {start}-{}/{all}", all - 1);
    let status = if start > 0 { 206 } else { 200 };
    let mut headers = vec![("content-length", &*length), ("etag", "\"another\"")];
    if start > 0 {
        headers.push(("content-range", &range));
    }
    answer(to, status, &headers, b"")?;
    let body = &bytes[start..];
    let (sent, stalls) = match fault {
        Some(Fault::Cut(most)) => (&body[..most.min(body.len())], false),
        Some(Fault::Stall(most)) => (&body[..most.min(body.len())], true),
        _ => (body, false),
    };
    let pause = *state.pause.lock().unwrap();
    for piece in sent.chunks(PIECE) {
        to.write_all(piece)?;
        state.steps.fetch_add(1, Ordering::Relaxed);
        thread::sleep(pause);
    }
    if stalls {
        // Until the client has had enough.
        let _ = BufReader::new(&*to).lines().count();
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// As `git hash-object` has it.
fn git(bytes: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hexadecimal(&hash.finalize())
}

pub(crate) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The name that a file has among the blobs.
pub(crate) fn etag(bytes: &[u8]) -> String {
    if bytes.len() > LARGE { sha256(bytes) } else { git(bytes) }
}
