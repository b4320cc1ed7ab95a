//! The body of a WHEP `PATCH`.

use honeycast::http::sdpfrag::{Credentials, Fragment, MAX_CANDIDATES, MAX_FRAGMENT_LEN};

/// Whether `data` is a fragment that is taken.
pub(crate) fn run(data: &[u8]) -> bool {
    let fragment = match Fragment::parse(data) {
        Ok(fragment) => fragment,
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() <= 100 && !text.contains(char::is_control), "{text:?}");
            return false;
        }
    };
    assert!(data.len() <= MAX_FRAGMENT_LEN && fragment.candidates <= MAX_CANDIDATES);
    assert!(fragment.credentials.is_some() || fragment.candidates > 0 || fragment.end_of_candidates);
    let local = Credentials { ufrag: "wxyz".into(), pwd: "0123456789abcdef01234567".into() };
    let candidate = "candidate:1 1 udp 2130706431 203.0.113.7 8189 typ host";
    let answer = fragment.answer(&local, [candidate, candidate]);
    let known =
        ["a=ice-lite", "a=group:", "m=", "a=mid:", "a=ice-ufrag:wxyz", "a=ice-pwd:0", "a=candidate:1 ", "a=end-"];
    for line in answer.split_terminator("\r\n") {
        assert!(!line.contains(char::is_control), "the fragment must not start lines in the answer: {line:?}");
        assert!(known.iter().any(|start| line.starts_with(start)), "{line:?}");
    }
    if answer.len() <= MAX_FRAGMENT_LEN {
        let read = Fragment::parse(answer.as_bytes()).expect("an answer is a fragment");
        assert_eq!((read.credentials.as_ref(), read.candidates), (Some(&local), 2));
        assert_eq!((read.group, read.media), (fragment.group, fragment.media));
    }
    true
}
