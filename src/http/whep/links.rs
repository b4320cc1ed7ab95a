//! STUN and TURN servers as `Link` headers (RFC 9725 §4.6).

use axum::http::HeaderValue;

use crate::http::settings::IceServer;

/// One header a URL. What no header can carry is left out with a warning; pages get it by other means.
pub(super) fn ice_servers(servers: &[IceServer]) -> Vec<HeaderValue> {
    let links = servers.iter().flat_map(|server| server.urls.iter().filter_map(|url| link(url, server)));
    links.collect()
}

fn link(url: &str, server: &IceServer) -> Option<HeaderValue> {
    let mut text = format!("<{url}>; rel=\"ice-server\"");
    if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
        let (username, credential) = (quoted(username), quoted(credential));
        text += &format!("; username={username}; credential={credential}; credential-type=\"password\"");
    }
    // The text may hold a password.
    let header = HeaderValue::from_bytes(text.as_bytes()).ok().filter(|_| !url.contains(['<', '>']));
    if header.is_none() {
        tracing::warn!(url = %url.escape_debug(), "an ICE server cannot be named in a Link header");
    }
    header.map(|mut header| {
        header.set_sensitive(true);
        header
    })
}

/// A quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(urls: &[&str], credentials: Option<(&str, &str)>) -> IceServer {
        IceServer {
            urls: urls.iter().map(ToString::to_string).collect(),
            username: credentials.map(|(name, _)| name.to_owned()),
            credential: credentials.map(|(_, password)| password.to_owned()),
        }
    }

    #[test]
    fn each_url_is_a_link_with_its_credentials() {
        let servers = [
            server(&["stun:stun.example:3478"], None),
            server(&["turn:turn.example?transport=udp", "turns:turn.example"], Some(("user", r#"se"cr\et"#))),
        ];
        let credentials = r#"; username="user"; credential="se\"cr\\et"; credential-type="password""#;
        let expected = [
            r#"<stun:stun.example:3478>; rel="ice-server""#.to_owned(),
            format!(r#"<turn:turn.example?transport=udp>; rel="ice-server"{credentials}"#),
            format!(r#"<turns:turn.example>; rel="ice-server"{credentials}"#),
        ];
        assert_eq!(ice_servers(&servers), expected);
    }

    #[test]
    fn what_no_header_can_carry_is_left_out() {
        assert_eq!(ice_servers(&[server(&["stun:a\r\nx: y", "stun:a>b", "stun:ok"], None)]).len(), 1);
    }
}
