//! The web page: files inside the program, shown under a policy that lets nothing in from elsewhere.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Path, type, content.
type File = (&'static str, &'static str, &'static [u8]);

/// Every file of the page.
const FILES: &[File] = &[];

/// Scripts, styles and images from here, requests to here, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a path is a file of the page.
pub(crate) fn is_file(path: &str) -> bool {
    file(path).is_some()
}

fn file(path: &str) -> Option<&'static File> {
    let wanted = if path == "/" { "/index.html" } else { path };
    FILES.iter().find(|(name, _, _)| *name == wanted)
}

/// The file at a path.
pub(crate) fn get(path: &str) -> Option<Response> {
    let (_, kind, content) = file(path)?;
    let mut response = (StatusCode::OK, *content).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}
