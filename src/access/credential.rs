//! Where a request carries its credential.

/// The cookie of the pages' login.
pub const COOKIE: &str = "honeycast_session";
/// Longest credential in bytes; nothing longer is looked at.
pub const MAX_CREDENTIAL: usize = 8 * 1024;

/// What a client shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A token or a key.
    Bearer(&'a str),
    /// What the login gave.
    Session(&'a str),
}

impl std::fmt::Debug for Credential<'_> {
    /// Says only which it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Bearer(_)) { "Bearer(***)" } else { "Session(***)" })
    }
}

/// The credential of a request: `Authorization: Bearer …` (RFC 6750 §2.1), else `token` of the query, for whom
/// headers are out of reach (WebSocket, media elements, links), else the cookie of the login.
///
/// `own_page` says whether the request comes from no page or one of ours: a cookie that another site's page makes
/// the browser send says nothing about who wants it.
pub fn find<'a>(
    authorization: Option<&'a str>,
    query: Option<&'a str>,
    cookies: impl IntoIterator<Item = &'a str>,
    own_page: bool,
) -> Option<Credential<'a>> {
    let fits = |text: &&str| !text.is_empty() && text.len() <= MAX_CREDENTIAL;
    let header = authorization.and_then(bearer).filter(fits).map(Credential::Bearer);
    let query = || query.and_then(in_query).filter(fits).map(Credential::Bearer);
    let cookie = || {
        let found = cookies.into_iter().find_map(in_cookies).filter(fits).map(Credential::Session);
        found.filter(|_| own_page)
    };
    header.or_else(query).or_else(cookie)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, text) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

/// Tokens and keys consist of letters that no query encodes.
fn in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

fn in_cookies(header: &str) -> Option<&str> {
    header.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}
