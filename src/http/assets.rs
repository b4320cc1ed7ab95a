//! The pages, embedded in the binary.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::settings::PageSettings;

/// Pages load nothing from elsewhere and have no inline script or style. They may connect to the API and the
/// signaling, and show pictures of the API, which are on other ports or, behind a proxy, on other hosts.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data: blob:; media-src 'self' blob: http: https:; connect-src 'self' ws: wss: http: https:; \
     manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'";

#[derive(RustEmbed)]
#[folder = "static/"]
pub(super) struct Assets;

/// The folder below `static/` that pages name their files in: another one for each set of files, so that browsers may keep
/// them and need not ask again for each.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut names: Vec<_> = Assets::iter().collect();
    names.sort();
    let files = names.iter().map(|name| (name, Assets::get(name).map(|file| file.metadata.sha256_hash())));
    format!("v-{:016x}", hash(&files.collect::<Vec<_>>()))
});

/// Debug builds read the files from the disk, and whoever changes one wants to see that without a new start.
const KEPT: &str = if cfg!(debug_assertions) { ASKED } else { "public, max-age=31536000, immutable" };
/// Browsers ask again each time: a page of another version would speak another protocol.
const ASKED: &str = "no-cache";

/// `/static/*` and `/viewer-config.json`.
pub(super) fn shared() -> OpenApiRouter<PageSettings> {
    OpenApiRouter::default().routes(routes!(settings)).route("/static/{*path}", get(file))
}

/// What pages have to know to reach the other ports.
#[utoipa::path(get, path = "/viewer-config.json", operation_id = "getViewerConfig", tag = "pages",
    responses((status = 200, description = "Ports and ICE servers", body = PageSettings)))]
async fn settings(State(pages): State<PageSettings>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-cache")], Json(pages))
}

/// The viewer page.
#[utoipa::path(get, path = "/viewer", operation_id = "getViewer", tag = "pages",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The caller has it, by `If-None-Match`"),
    ))]
pub(super) async fn viewer_page(headers: HeaderMap) -> Result<Response, ApiError> {
    page("viewer.html", "", &headers)
}

/// The viewer page under the name that older links have.
#[utoipa::path(get, path = "/viewer.html", operation_id = "getViewerHtml", tag = "pages",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The caller has it, by `If-None-Match`"),
    ))]
pub(super) async fn viewer_html(headers: HeaderMap) -> Result<Response, ApiError> {
    page("viewer.html", "", &headers)
}

/// The viewer page one level down. Its addresses are relative, so that they hold behind any path prefix.
pub(super) async fn viewer_page_below(headers: HeaderMap) -> Result<Response, ApiError> {
    page("viewer.html", "../", &headers)
}

/// The script of the viewer page.
#[utoipa::path(get, path = "/viewer.js", operation_id = "getViewerScript", tag = "pages",
    responses(
        (status = 200, description = "The script", body = String, content_type = "text/javascript"),
        (status = 304, description = "The caller has it, by `If-None-Match`"),
    ))]
pub(super) async fn viewer_script(headers: HeaderMap) -> Result<Response, ApiError> {
    asset("viewer.js", &headers)
}

/// This document as a page.
#[utoipa::path(get, path = "/docs", operation_id = "getDocs", tag = "pages",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The caller has it, by `If-None-Match`"),
    ))]
pub(super) async fn docs_page(headers: HeaderMap) -> Result<Response, ApiError> {
    page("docs.html", "", &headers)
}

pub(super) async fn start_page(headers: HeaderMap) -> Result<Response, ApiError> {
    page("index.html", "", &headers)
}

/// The login page.
#[utoipa::path(get, path = "/login", operation_id = "getLogin", tag = "pages",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The caller has it, by `If-None-Match`"),
    ))]
pub(super) async fn login_page(headers: HeaderMap) -> Result<Response, ApiError> {
    page("login.html", "", &headers)
}

/// The service worker: it may only serve what lies below its own address.
pub(super) async fn service_worker(headers: HeaderMap) -> Result<Response, ApiError> {
    asset("sw.js", &headers)
}

/// A file by its name, or by its name in the folder of a version. Whose page is of another version gets the file as it is
/// now, for once: rather that than none.
async fn file(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Result<Response, ApiError> {
    // A path that is not UTF-8 names nothing either.
    let path = path.map(|Path(path)| path).unwrap_or_default();
    match path.split_once('/') {
        Some((version, name)) if version == *VERSION => kept(name, &headers, KEPT),
        Some((version, name)) if version.starts_with("v-") => asset(name, &headers),
        _ => asset(&path, &headers),
    }
}

fn asset(path: &str, request: &HeaderMap) -> Result<Response, ApiError> {
    kept(path, request, ASKED)
}

fn kept(path: &str, request: &HeaderMap, cache: &'static str) -> Result<Response, ApiError> {
    let mut file = embedded(path)?;
    let data = std::mem::take(&mut file.data);
    let tag: String = file.metadata.sha256_hash().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    Ok(answer(file.metadata.mimetype(), data, &tag, cache, request))
}

/// A page with its files in the folder of this version; `up` leads from its address to the root. All addresses are relative,
/// so that they hold behind any path prefix. What is named `./static/…` keeps that address: the manifest's own is its identity.
fn page(path: &str, up: &str, request: &HeaderMap) -> Result<Response, ApiError> {
    let file = embedded(path)?;
    let folder = format!("=\"{up}static/{}/", *VERSION);
    let text = String::from_utf8_lossy(&file.data).replace("=\"static/", &folder);
    let tag = format!("{:016x}", hash(&text));
    Ok(answer(file.metadata.mimetype(), text.into_bytes().into(), &tag, ASKED, request))
}

/// Embedded files are looked up by name, so there is no file system to climb in.
fn embedded(path: &str) -> Result<EmbeddedFile, ApiError> {
    Assets::get(path).ok_or_else(|| ApiError::not_found("Not found"))
}

/// The same in each process of one program. Nobody else's data goes in.
fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn answer(mime: &str, data: Cow<'static, [u8]>, tag: &str, cache: &'static str, request: &HeaderMap) -> Response {
    let tag = format!("\"{tag}\"");
    let known = request.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let unchanged = known.is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let etag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
    let headers: [(HeaderName, HeaderValue); 6] = [
        (header::ETAG, etag),
        (header::CONTENT_TYPE, content_type(mime)),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    match unchanged {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, data).into_response(),
    }
}

fn content_type(mime: &str) -> HeaderValue {
    let textual = mime.starts_with("text/") || mime.ends_with("javascript") || mime.ends_with("json");
    let value = if textual { format!("{mime}; charset=utf-8") } else { mime.to_owned() };
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn text(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_viewer_page_one_level_down_names_its_files_one_level_up() {
        let page = text(viewer_page(HeaderMap::new()).await.unwrap()).await;
        let below = text(viewer_page_below(HeaderMap::new()).await.unwrap()).await;
        let script = format!("static/{}/js/viewer.js\"", *VERSION);
        assert!(page.contains(&format!("=\"{script}")) && !page.contains("../"), "{page}");
        assert!(below.contains(&format!("=\"../{script}")) && !below.contains("=\"static/"), "{below}");
    }

    #[tokio::test]
    async fn pages_name_every_file_with_its_version_but_the_manifest() {
        for name in ["index.html", "viewer.html", "login.html", "docs.html"] {
            let page = text(page(name, "", &HeaderMap::new()).unwrap()).await;
            let plain: Vec<_> = page.split("static/").skip(1).filter(|rest| !rest.starts_with(&**VERSION)).collect();
            let manifests = plain.iter().filter(|rest| rest.starts_with("manifest.webmanifest\"")).count();
            assert_eq!((plain.len(), manifests), if name == "index.html" { (1, 1) } else { (0, 0) }, "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_is_kept_under_its_own_version_only_and_found_under_any() {
        let get = async |path: &str| file(Ok(Path(path.to_owned())), HeaderMap::new()).await;
        for (folder, cache) in [(format!("{}/", *VERSION), KEPT), ("v-0/".to_owned(), ASKED), (String::new(), ASKED)] {
            let answer = get(&format!("{folder}js/text.js")).await.unwrap();
            assert_eq!(answer.headers()[header::CACHE_CONTROL], cache, "{folder}");
            assert!(text(answer).await.contains("export const text"));
            assert!(get(&format!("{folder}js/nothing.js")).await.is_err());
        }
        assert!(cfg!(debug_assertions) || KEPT.contains("immutable"));
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let first = start_page(HeaderMap::new()).await.unwrap();
        let tag = first.headers()[header::ETAG].clone();
        for (tags, status) in [
            (tag.to_str().unwrap().to_owned(), StatusCode::NOT_MODIFIED),
            (format!("\"other\", W/{}", tag.to_str().unwrap()), StatusCode::NOT_MODIFIED),
            ("\"other\"".to_owned(), StatusCode::OK),
        ] {
            let mut request = HeaderMap::new();
            request.insert(header::IF_NONE_MATCH, HeaderValue::try_from(tags.clone()).unwrap());
            let answer = start_page(request).await.unwrap();
            assert_eq!(answer.status(), status, "{tags}");
            assert!(answer.headers().contains_key(header::CONTENT_SECURITY_POLICY));
            assert_eq!(text(answer).await.is_empty(), status == StatusCode::NOT_MODIFIED);
        }
    }

    #[test]
    fn the_policy_of_pages_allows_nothing_inline_and_nothing_from_elsewhere() {
        for part in ["default-src 'none'", "script-src 'self';", "style-src 'self';", "base-uri 'none'"] {
            assert!(CONTENT_SECURITY_POLICY.contains(part), "{part}");
        }
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
    }
}
