//! The web page: files inside the program, shown under a policy that lets nothing in from elsewhere.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A file of the page.
struct File {
    /// Where the browser finds it.
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! file {
    ($kind:ident, $name:literal) => {
        File {
            path: concat!("/assets/", $name),
            kind: $kind,
            content: include_bytes!(concat!("../assets/", $name)),
        }
    };
}

/// Every file of the page.
const FILES: &[File] = &[
    File { path: "/", kind: HTML, content: include_bytes!("../assets/index.html") },
    File { path: "/docs", kind: HTML, content: include_bytes!("../assets/docs.html") },
    file!(CSS, "base.css"),
    file!(CSS, "docs.css"),
    file!(CSS, "layout.css"),
    file!(CSS, "message.css"),
    file!(CSS, "panel.css"),
    file!(SVG, "favicon.svg"),
    file!(SVG, "icons.svg"),
    file!(JS, "answer.js"),
    file!(JS, "api.js"),
    file!(JS, "app.js"),
    file!(JS, "composer.js"),
    file!(JS, "docs.js"),
    file!(JS, "dom.js"),
    file!(JS, "files.js"),
    file!(JS, "key.js"),
    file!(JS, "markdown/blocks.js"),
    file!(JS, "markdown/code.js"),
    file!(JS, "markdown/inline.js"),
    file!(JS, "markdown/render.js"),
    file!(JS, "message.js"),
    file!(JS, "settings.js"),
    file!(JS, "sidebar.js"),
    file!(JS, "sse.js"),
    file!(JS, "store.js"),
    file!(JS, "theme.js"),
    file!(JS, "thread.js"),
    file!(JS, "toast.js"),
    file!(JS, "tree.js"),
];

/// Scripts, styles and images from here, requests to here, and nothing else. No script may make elements of text
/// (trusted types without any type), whatever a model writes.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Whether a path is a file of the page.
pub(crate) fn is_file(path: &str) -> bool {
    file(path).is_some()
}

fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// The file at a path; only that it has not changed, if the browser says that it has this one.
pub(crate) fn get(path: &str, request: &HeaderMap) -> Option<Response> {
    let file = file(path)?;
    let tag = tag(file.content);
    let has = request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match has {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => (StatusCode::OK, file.content).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Always ask: a new program has a new page.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(HeaderValue::try_from(tag).ok().map(|tag| (header::ETAG, tag)));
    Some(response)
}

/// A name for the content: other content, another name.
fn tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn text(file: &File) -> &str {
        std::str::from_utf8(file.content).unwrap()
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        fn walk(folder: &Path, under: &str, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let name = format!("{under}/{}", entry.file_name().to_str().unwrap());
                match entry.path().is_dir() {
                    true => walk(&entry.path(), &name, found),
                    false => drop(found.insert(name)),
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"), "/assets", &mut found);
        for (asset, path) in [("/assets/index.html", "/"), ("/assets/docs.html", "/docs")] {
            assert!(found.remove(asset) && found.insert(path.to_owned()), "{asset}");
        }
        assert_eq!(FILES.iter().map(|file| file.path.to_owned()).collect::<BTreeSet<_>>(), found);
    }

    #[test]
    fn what_a_file_asks_for_is_there() {
        for file in FILES {
            let folder = file.path.rsplit_once('/').unwrap().0;
            for line in text(file).lines() {
                let import = line.strip_prefix("import ").and_then(|rest| rest.split_once("from \""));
                if let Some((_, name)) = import {
                    let mut parts: Vec<&str> = folder.split('/').collect();
                    for part in name.trim_end_matches("\";").split('/') {
                        match part {
                            "." => {}
                            ".." => drop(parts.pop()),
                            part => parts.push(part),
                        }
                    }
                    assert!(is_file(&parts.join("/")), "{}: {line}", file.path);
                }
                for reference in line.split("=\"assets/").skip(1) {
                    let name = reference.split(['"', '#']).next().unwrap();
                    assert!(is_file(&format!("/assets/{name}")), "{}: {line}", file.path);
                }
            }
        }
    }

    #[test]
    fn nothing_is_inline_and_no_text_becomes_elements() {
        for page in ["/", "/docs"].map(|path| text(file(path).unwrap())) {
            assert!(
                !page.contains("<style") && !page.contains("style=") && !page.contains(" on"),
                "inline style or handler"
            );
            assert!(
                page.split("<script").skip(1).all(|script| script.contains("></script>")),
                "inline script"
            );
        }
        for file in FILES.iter().filter(|file| file.kind == JS) {
            for sink in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "eval(",
                "Function(",
            ] {
                assert!(!text(file).contains(sink), "{} has {sink}", file.path);
            }
        }
    }

    #[test]
    fn a_browser_that_has_the_file_is_not_sent_it_again() {
        let first = get("/assets/app.js", &HeaderMap::new()).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], JS);
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(get("/assets/app.js", &request).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("/assets/api.js", &request).unwrap().status(), StatusCode::OK);
        assert!(get("/assets/../Cargo.toml", &HeaderMap::new()).is_none());
    }
}
