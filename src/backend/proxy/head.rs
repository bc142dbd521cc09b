//! Which fields of a request's head go on to an upstream, and which of its answer's come back.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::units::hex;

/// Of one connection, of our own doing, or meant for us alone.
fn stays_here(name: &str) -> bool {
    match name {
        "authorization" | "proxy-authorization" | "x-api-key" | "api-key" | "cookie" | "origin" => true,
        "connection" | "keep-alive" | "proxy-connection" | "proxy-authenticate" | "upgrade" => true,
        "host" | "te" | "trailer" | "transfer-encoding" | "content-length" | "expect" => true,
        // A compressed answer could not be ended with an error event.
        "accept-encoding" => true,
        _ => false,
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The head of a request to us as that of the request to an upstream, save for who asks and whom.
pub(super) fn to_upstream(theirs: HeaderMap, request_id: &str) -> HeaderMap {
    // What `connection` names is of the connection too.
    let of_the_connection: Vec<_> = theirs
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let mut headers = only(theirs, |name| !stays_here(name.as_str()) && !of_the_connection.contains(name));
    if let Ok(id) = HeaderValue::from_str(for_upstreams(request_id)) {
        headers.insert(REQUEST_ID, id);
    }
    // Two of them are as good as none.
    let mut traceparents = headers.get_all(&TRACEPARENT).iter();
    let traced = traceparents.next().is_some_and(|value| is_traceparent(value.as_bytes()))
        && traceparents.next().is_none();
    if !traced {
        // A trace that begins here begins without what the client said of another.
        headers.remove(TRACESTATE);
        if let Ok(value) = HeaderValue::from_bytes(&new_traceparent()) {
            headers.insert(TRACEPARENT, value);
        }
    }
    headers
}

/// The fields whose names pass. To put those into another map takes less than to remove the others from this one.
fn only(headers: HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut passing = HeaderMap::new();
    let mut last = None;
    for (name, value) in headers {
        // A field's further values come without its name.
        if let Some(name) = name {
            last = passes(&name).then_some(name);
        }
        if let Some(name) = &last {
            passing.append(name, value);
        }
    }
    passing
}

/// An id of our making without what it begins with: some servers (llama-cpp-python) refuse what is no UUID, hyphens or not.
fn for_upstreams(request_id: &str) -> &str {
    let is_hex = |text: &&str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    request_id.strip_prefix("req_").filter(is_hex).unwrap_or(request_id)
}

/// Comes back whatever its upstream: what SDKs read, and what says how the body is to be taken. Others may tell where the
/// upstream is.
fn comes_back(name: &str) -> bool {
    match name {
        "content-type" | "content-disposition" | "content-language" | "content-encoding" => true,
        "cache-control" | "x-accel-buffering" => true,
        "retry-after" | "retry-after-ms" | "x-should-retry" => true,
        name => ["x-ratelimit-", "openai-", "anthropic-"].iter().any(|family| name.starts_with(family)),
    }
}

pub(super) fn from_upstream(theirs: HeaderMap) -> HeaderMap {
    only(theirs, |name| comes_back(name.as_str()))
}

/// Whether an HTTP/1.1 answer does not say where its body ends (RFC 9112, section 6.3).
pub(super) fn is_undelimited(headers: &HeaderMap) -> bool {
    match headers.get_all(header::TRANSFER_ENCODING).iter().next_back() {
        Some(codings) => {
            let last = codings.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
            !last.trim_ascii().eq_ignore_ascii_case(b"chunked")
        }
        None => !headers.contains_key(header::CONTENT_LENGTH),
    }
}

/// `retry-after` in seconds. A date is not looked at.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = || Some(Duration::from_millis(number(headers, "retry-after-ms")?));
    milliseconds().or_else(|| Some(Duration::from_secs(number(headers, "retry-after")?)))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Version 00 of W3C's Trace Context, or a later one that begins like it.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let some = |bytes: &[u8]| hex(bytes) && bytes.iter().any(|byte| *byte != b'0');
    if value.len() < 55 {
        return false;
    }
    let (version, rest) = value.split_at(2);
    hex(version)
        && version != b"ff"
        && (value.len() == 55 || (version != b"00" && value[55] == b'-'))
        && rest[0] == b'-'
        && some(&rest[1..33])
        && rest[33] == b'-'
        && some(&rest[34..50])
        && rest[50] == b'-'
        && hex(&rest[51..53])
}

/// Not sampled: whoever wants the trace decides that further up.
fn new_traceparent() -> Vec<u8> {
    // Each state has keys of its own: as good as random numbers, without a system call.
    let random = || hex(RandomState::new().hash_one(()).max(1));
    [b"00-", &random()[..], &random(), b"-", &random(), b"-00"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn credentials_and_hops_stay_here() {
        let headers = map(&[
            ("authorization", "Bearer ours"),
            ("x-api-key", "ours"),
            ("cookie", "a=b"),
            ("connection", "close, X-Hop"),
            ("connection", "x-other-hop"),
            ("x-hop", "1"),
            ("x-other-hop", "1"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("host", "us"),
            ("content-length", "5"),
            ("openai-organization", "org"),
            ("x-request-id", "theirs"),
        ]);
        let headers = to_upstream(headers, "req_1");
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["openai-organization", "traceparent", "x-request-id"]);
        assert_eq!(headers["x-request-id"], "req_1");
        assert!(is_traceparent(headers["traceparent"].as_bytes()));
    }

    #[test]
    fn an_id_of_ours_is_a_uuid_and_one_of_theirs_stays() {
        assert_eq!(for_upstreams("req_1f3ec5962966ec97d85ffb862e9845c9"), "1f3ec5962966ec97d85ffb862e9845c9");
        for theirs in ["req_1", "given", "", "req_1f3ec5962966ec97d85ffb862e9845cz"] {
            assert_eq!(for_upstreams(theirs), theirs);
        }
    }

    #[test]
    fn a_trace_goes_on_and_a_broken_one_begins_anew() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = to_upstream(map(&[("traceparent", trace), ("tracestate", "a=b")]), "r");
        assert_eq!(headers["traceparent"], trace);
        assert_eq!(headers["tracestate"], "a=b");
        let headers = map(&[("traceparent", trace), ("traceparent", trace), ("tracestate", "a=b")]);
        let headers = to_upstream(headers, "r");
        assert_eq!(headers.get_all("traceparent").iter().count(), 1);
        assert_ne!(headers["traceparent"], trace);
        for broken in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            let headers = to_upstream(map(&[("traceparent", broken), ("tracestate", "a=b")]), "r");
            assert_ne!(headers["traceparent"], broken);
            assert!(!headers.contains_key("tracestate"));
        }
    }

    #[test]
    fn what_comes_back_tells_nothing_of_the_upstream() {
        let headers = map(&[
            ("content-type", "application/json"),
            ("retry-after", "7"),
            ("x-ratelimit-remaining-requests", "1"),
            ("server", "uvicorn"),
            ("location", "http://10.0.0.7/v1"),
            ("x-served-by", "10.0.0.7"),
            ("set-cookie", "a=b"),
        ]);
        let back = from_upstream(headers);
        assert_eq!(back.len(), 3);
        assert_eq!(retry_after(&back), Some(Duration::from_secs(7)));
    }
}
