//! What people look at: the landing page, the document and its Swagger UI. No page asks another host for anything.

use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use poem::{
    Endpoint, EndpointExt, Request, Response,
    endpoint::{BoxEndpoint, make_sync},
    http::{StatusCode, header},
};
use poem_openapi::OpenApiService;
use sha2::{Digest, Sha256};

use super::document::openapi_document;
use crate::backend::Registry;

/// Nothing but this server, whatever a page or the code in it may want.
const POLICY: &str =
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";

/// The pages, by paths that the document does not list.
pub(crate) fn pages(prefix: String, models: Registry) -> [(&'static str, BoxEndpoint<'static>); 6] {
    let landing_prefix = prefix.clone();
    let landing = make_sync(move |_| {
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(header::CONTENT_SECURITY_POLICY, POLICY)
            .body(landing_page(&landing_prefix, &models))
    });
    let text = |text: &'static str| move || Bytes::from_static(text.as_bytes());
    [
        ("/", landing.boxed()),
        ("/openapi.json", Asset::boxed("application/json", move || openapi_document(&prefix).into())),
        ("/docs", Asset::boxed("text/html; charset=utf-8", text(PAGE))),
        ("/docs/start.js", Asset::boxed("text/javascript", text(START))),
        ("/docs/swagger-ui.js", Asset::boxed("text/javascript", || swagger().1)),
        ("/docs/swagger-ui.css", Asset::boxed("text/css", || swagger().0)),
    ]
}

/// A file that is made when it is first asked for, compressed once, and then answered from memory.
struct Asset {
    content_type: &'static str,
    make: Box<dyn Fn() -> Bytes + Send + Sync>,
    made: OnceLock<Made>,
}

struct Made {
    plain: Bytes,
    gzip: Bytes,
    etag: String,
}

impl Asset {
    fn boxed(
        content_type: &'static str,
        make: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> BoxEndpoint<'static> {
        EndpointExt::boxed(Self { content_type, make: Box::new(make), made: OnceLock::new() })
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let plain = (self.make)();
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            // Writing to memory does not fail; an empty file would only be served uncompressed.
            let gzip = std::io::Write::write_all(&mut encoder, &plain).and_then(|()| encoder.finish());
            let digest = Sha256::digest(&plain);
            let etag = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
            Made { gzip: gzip.unwrap_or_default().into(), etag: format!("\"{etag}\""), plain }
        })
    }
}

impl Endpoint for Asset {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let made = self.made();
        let response = Response::builder()
            .header(header::ETAG, &made.etag)
            .header(header::CACHE_CONTROL, "public, max-age=3600")
            .header(header::VARY, "accept-encoding");
        if request.header(header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&made.etag)) {
            return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
        }
        let response =
            response.content_type(self.content_type).header(header::CONTENT_SECURITY_POLICY, POLICY);
        let zipped = request.header(header::ACCEPT_ENCODING).is_some_and(takes_gzip);
        Ok(if zipped && !made.gzip.is_empty() {
            response.header(header::CONTENT_ENCODING, "gzip").body(made.gzip.clone())
        } else {
            response.body(made.plain.clone())
        })
    }
}

/// `gzip` among the encodings, and not with a weight of nothing.
fn takes_gzip(encodings: &str) -> bool {
    encodings.split(',').any(|encoding| {
        let (name, weight) = encoding.split_once(';').unwrap_or((encoding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight != Some(0.0)
    })
}

/// Swagger UI's style and script, from the page that poem-openapi bundles them in.
fn swagger() -> (Bytes, Bytes) {
    let page = OpenApiService::new((), "", "").swagger_ui_html();
    let between = |start: &str, end: &str| {
        let inside = page.split_once(start).and_then(|(_, rest)| rest.split_once(end));
        Bytes::copy_from_slice(inside.map_or("", |(inside, _)| inside).as_bytes())
    };
    // The script itself may hold any closing tag but the one that is followed by the head's.
    (
        between("<style charset=\"UTF-8\">", "</style>"),
        between("<script charset=\"UTF-8\">", "</script>\n</head>"),
    )
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sconce API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="/docs/swagger-ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

/// The validator's badge would ask another host.
const START: &str = r##"SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"##;

fn landing_page(prefix: &str, models: &Registry) -> String {
    let rows: String = models
        .models()
        .iter()
        .map(|(id, model)| {
            let state = escape(&model.state());
            format!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{state}</td></tr>\n",
                escape(id),
                model.kind.as_str()
            )
        })
        .collect();
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sconce</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }}
td, th {{ text-align: left; padding: .2rem 1.5rem .2rem 0; }}
</style>
</head>
<body>
<h1>sconce {version}</h1>
<p>An OpenAI-compatible API. The base URL for clients is this host with <code>{prefix}</code>.</p>
<ul>
<li><a href="/docs">Documentation, to be tried out</a></li>
<li><a href="/openapi.json">OpenAPI document</a></li>
<li><a href="{prefix}/models">Models</a></li>
<li><a href="/health">Health</a></li>
</ul>
<table>
<tr><th>Model</th><th>Backend</th><th>State</th></tr>
{rows}</table>
</body>
</html>
"#,
        version = env!("CARGO_PKG_VERSION"),
        prefix = escape(prefix),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swagger_ui_comes_apart_into_style_and_script() {
        let (css, js) = swagger();
        assert!(css.len() > 50_000 && css.starts_with(b".swagger-ui"), "{}", css.len());
        assert!(js.len() > 500_000, "{}", js.len());
        assert!(js.windows(15).any(|window| window == b"SwaggerUIBundle"));
        assert!(!js.ends_with(b"</script>"));
    }
}
