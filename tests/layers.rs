//! Imports go down the layers only, each foreign engine is named in its own folder, and the media core has
//! neither clock nor socket.
//!
//! This reads `src/` as text. Comments and literals are left out, `use` trees and paths are resolved (`crate`,
//! `self`, `super`). Code under `#[cfg(test)]` is free, files of tests included: `tests.rs`, `*_tests.rs`,
//! `testing.rs` and folders `tests`; that they really are declared under `#[cfg(test)]` is checked.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module below `src` and the modules that it may name besides itself. What is not listed is refused;
/// `!a::b` takes a part out again.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("telemetry", &["base"]),
    ("access", &["base", "!base::shutdown", "!base::udp"]),
    ("store", &["base"]),
    ("media", &["base", "!base::net", "!base::shutdown", "!base::udp"]),
    ("webrtc", &["base", "telemetry", "media"]),
    ("ingest", &["base", "telemetry", "media", "webrtc"]),
    ("egress", &["base", "telemetry", "media", "webrtc"]),
    ("control", &["base", "telemetry", "store", "media", "ingest", "egress"]),
    // Edges take what they show of ingest and egress from `control`, which re-exports it.
    ("mqtt", &["base", "telemetry", "control"]),
    ("http", &["base", "telemetry", "access", "control"]),
    ("signaling", &["base", "telemetry", "access", "control"]),
    ("webhook", &["base", "telemetry", "control"]),
    // A foreign client: it must not share the server's logic that it tests.
    ("sim", &["base", "telemetry", "media", "mqtt"]),
    // Topics and keys are checked where the rest of the configuration is.
    ("config", &["base", "telemetry", "access", "mqtt", "webhook"]),
    (
        "app",
        &[
            "base",
            "telemetry",
            "access",
            "store",
            "media",
            "webrtc",
            "ingest",
            "egress",
            "control",
            "mqtt",
            "http",
            "signaling",
            "webhook",
            "sim",
            "config",
        ],
    ),
    ("cli", &["base", "telemetry", "access", "mqtt", "sim", "config", "app"]),
    ("main", &["base", "telemetry", "sim", "config", "app", "cli"]),
];

/// Crates and the only folders that may name them.
const FENCES: &[(&[&str], &[&str])] = &[
    (&["rtp", "rtcp", "interceptor", "dtls", "srtp", "stun", "sdp", "rtc_shared", "rtc_crypto", "sansio"], &["webrtc"]),
    (&["axum", "axum_server", "tower"], &["http", "signaling"]),
    (&["utoipa_axum", "x509_parser"], &["http"]),
    // Schemas are derived where a type is serialized.
    (&["utoipa"], &["base", "egress", "control", "http"]),
    (&["jsonwebtoken"], &["access"]),
    (&["rumqttc", "mqtt5"], &["mqtt"]),
    (&["redb"], &["store"]),
    (&["mp4_atom"], &["media"]),
    (&["prometheus"], &["telemetry"]),
    (&["hyper", "hyper_rustls", "http_body_util"], &["webhook"]),
    (&["hyper_util"], &["http", "webhook"]),
];

/// Crates and modules of `std` that the media core must not name: sockets, tasks, logs, the world outside.
const NOT_IN_MEDIA: &[&str] = &[
    "tokio",
    "tokio_util",
    "socket2",
    "quinn_udp",
    "tracing",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
];
/// What of `std::net` is plain data.
const ADDRESSES: &[&str] = &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

#[test]
fn every_source_file_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for file in &files {
        let path = file.strip_prefix(&root).unwrap();
        let module = module_of(path);
        // The table of contents.
        if module == ["lib"] {
            continue;
        }
        seen.insert(module[0].clone());
        if !is_test_file(path) {
            let text = fs::read_to_string(file).unwrap();
            found.extend(violations(&module, &text).into_iter().map(|text| format!("src/{}:{text}", path.display())));
        }
    }
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
    let listed: BTreeSet<String> = MAY_IMPORT.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(seen, listed, "the table of this test and the folders of src differ");
}

#[test]
fn fenced_crates_are_dependencies() {
    // A crate that is renamed in Cargo.toml would slip through the fence.
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    for name in FENCES.iter().flat_map(|(crates, _)| *crates) {
        let name = name.replace('_', "-");
        assert!(manifest.contains(&format!("\n{name} = ")), "{name} is not in Cargo.toml");
    }
}

/// What is wrong in the text of one file of `module`, each with its line.
fn violations(module: &[String], text: &str) -> Vec<String> {
    let tokens = without_test_code(tokens(text));
    let paths = paths(&tokens, module);
    let local = local_names(&tokens, &paths);
    let top = module[0].as_str();
    let mut found = undeclared_tests(&tokens);
    for path in &paths {
        let line = path.line;
        if let Some(inside) = path.absolute() {
            if let Some(why) = refused_import(top, inside) {
                found.push(format!("{line}: {why}"));
            }
        } else if !(local.contains(&path.parts[0]) || path.parts.len() == 1 && !path.in_use) {
            let name = path.parts[0].as_str();
            let fence = FENCES.iter().find(|(crates, folders)| crates.contains(&name) && !folders.contains(&top));
            if let Some((_, folders)) = fence {
                found.push(format!("{line}: {name} may be named in src/{} only", folders.join(" and src/")));
            }
        }
        if top == "media"
            && let Some(what) = not_in_media(&path.parts, local.contains(&path.parts[0]))
        {
            found.push(format!("{line}: the media core must not use {what}"));
        }
    }
    if top == "media" {
        let elapsed = tokens.windows(2).filter(|pair| pair[0].text == "." && pair[1].text == "elapsed");
        found.extend(elapsed.map(|pair| format!("{}: `elapsed` reads a clock", pair[1].line)));
    }
    found
}

/// Why `top` may not name `crate::{inside}`.
fn refused_import(top: &str, inside: &[String]) -> Option<String> {
    let Some(target) = inside.first().filter(|name| *name != "*" && *name != "self") else {
        return Some("the crate's root must not be imported whole".into());
    };
    if target == top {
        return None;
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(module, _)| *module == top) else {
        return Some(format!("{top} is not in the table of tests/layers.rs"));
    };
    let full = inside.join("::");
    let covers = |rule: &str| full == rule || full.starts_with(&format!("{rule}::"));
    let is_allowed = allowed.iter().any(|rule| covers(rule));
    let is_taken_out = allowed.iter().filter_map(|rule| rule.strip_prefix('!')).any(covers);
    (!is_allowed || is_taken_out).then(|| format!("{top} must not import crate::{full}"))
}

fn not_in_media(parts: &[String], first_is_local: bool) -> Option<String> {
    let full = parts.join("::");
    if parts.windows(2).any(|pair| pair[1] == "now" && (pair[0] == "Instant" || pair[0] == "SystemTime")) {
        return Some(format!("{full}: time is an argument"));
    }
    let is_socket = full.starts_with("std::net") && !parts.get(2).is_some_and(|name| ADDRESSES.contains(&&**name));
    let is_named = |name: &&str| full == **name || full.starts_with(&format!("{name}::"));
    // A single word is a crate only where it is used as one, like `tracing::info!`.
    let refused = is_socket || (parts.len() > 1 && !first_is_local && NOT_IN_MEDIA.iter().any(is_named));
    refused.then_some(full)
}

/// Declarations of test files that would be built into the product.
fn undeclared_tests(tokens: &[Token]) -> Vec<String> {
    // Declarations under #[cfg(test)] are gone by now.
    let declared = tokens.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";" && is_test_name(&w[1].text));
    declared.map(|w| format!("{}: mod {} needs #[cfg(test)]", w[1].line, w[1].text)).collect()
}

fn is_test_name(name: &str) -> bool {
    name == "tests" || name == "testing" || name.ends_with("_tests")
}

fn is_test_file(path: &Path) -> bool {
    path.with_extension("").components().any(|part| part.as_os_str().to_str().is_some_and(is_test_name))
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module_of(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let mut parts: Vec<String> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A word, `::`, or any other single character.
#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Splits Rust source; comments, strings, characters, numbers and lifetimes leave nothing.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut i, mut line) = (Vec::new(), 0, 1);
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => i += chars[i..].iter().take_while(|c| **c != '\n').count(),
            '/' if at(i + 1) == '*' => i = end_of_comment(&chars, i),
            '"' => i = end_of_text(&chars, i),
            '\'' => {
                // 'a' and '\n' are characters, 'a without a second quote is a lifetime.
                if at(i + 1) == '\\' {
                    i += 3;
                    i += chars[i.min(chars.len())..].iter().take_while(|c| **c != '\'').count() + 1;
                } else if at(i + 2) == '\'' {
                    i += 3;
                } else {
                    i += 1 + chars[i + 1..].iter().take_while(|c| is_word(**c)).count();
                }
            }
            c if is_word(c) => {
                i += chars[i..].iter().take_while(|c| is_word(**c)).count();
                let word: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
                match (word.as_str(), at(i + hashes)) {
                    ("r" | "br" | "cr", '"') => i = end_of_raw_text(&chars, i, hashes),
                    ("b" | "c", '"') if hashes == 0 => i = end_of_text(&chars, i),
                    // r#type: the name follows.
                    ("r", _) if hashes == 1 => i += 1,
                    ("b", '\'') if hashes == 0 => {}
                    _ if c.is_numeric() => {}
                    _ => out.push(Token { text: word, line }),
                }
            }
            ':' if at(i + 1) == ':' => {
                out.push(Token { text: "::".into(), line });
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    out.push(Token { text: c.into(), line });
                }
                i += 1;
            }
        }
        i = i.min(chars.len());
        line += chars[start..i].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn end_of_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match chars.get(i..i + 2) {
            Some(['/', '*']) => (depth, i) = (depth + 1, i + 2),
            Some(['*', '/']) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn end_of_text(chars: &[char], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn end_of_raw_text(chars: &[char], first_hash: usize, hashes: usize) -> usize {
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = first_hash + hashes + 1;
    let found = chars.get(body..).and_then(|rest| rest.windows(end.len()).position(|window| window == end));
    found.map_or(chars.len(), |length| body + length + end.len())
}

/// Leaves out every item under exactly `#[cfg(test)]`.
fn without_test_code(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut out, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if tokens[i..].len() >= MARK.len() && tokens[i..].iter().zip(MARK).all(|(token, text)| token.text == text) {
            i = end_of_item(&tokens, i + MARK.len());
        } else {
            out.push(tokens[i].clone());
            i += 1;
        }
    }
    out
}

/// Behind the `;` or the block that ends the item at `i`, further attributes included.
fn end_of_item(tokens: &[Token], mut i: usize) -> usize {
    let (mut depth, mut is_use) = (0, false);
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 && !is_use {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            "use" => is_use = true,
            _ => {}
        }
        i += 1;
    }
    i
}

/// A path as it was written, groups unfolded; `crate`, `self` and `super` are resolved.
#[derive(Debug, PartialEq)]
struct Found {
    line: usize,
    parts: Vec<String>,
    /// The name that a `use` gives it.
    name: Option<String>,
    in_use: bool,
}

impl Found {
    /// The parts behind `crate`.
    fn absolute(&self) -> Option<&[String]> {
        self.parts.split_first().filter(|(first, _)| *first == "crate").map(|(_, rest)| rest)
    }
}

fn paths(tokens: &[Token], file: &[String]) -> Vec<Found> {
    let mut out = Vec::new();
    let mut module = file.to_vec();
    let mut depth = 0;
    let mut inline = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let text = tokens[i].text.as_str();
        let follows = |n: usize| tokens.get(i + n).map(|token| token.text.as_str());
        match text {
            "mod" if follows(2) == Some("{") => {
                module.push(tokens[i + 1].text.clone());
                inline.push(depth);
                depth += 1;
                i += 3;
            }
            "{" => (depth, i) = (depth + 1, i + 1),
            "}" => {
                depth -= 1;
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
                i += 1;
            }
            "use" => i = tree(tokens, i + 1, &[], true, &module, &mut out),
            // pub(crate), pub(super)
            "crate" | "super" | "self" if follows(1) != Some("::") => i += 1,
            _ if tokens[i].is_word() => i = tree(tokens, i, &[], false, &module, &mut out),
            _ => i += 1,
        }
    }
    out
}

/// Reads one path or `use` tree at `i` behind `prefix`; gives the place behind it.
fn tree(
    tokens: &[Token],
    mut i: usize,
    prefix: &[String],
    in_use: bool,
    module: &[String],
    out: &mut Vec<Found>,
) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let line = tokens.get(i).map_or(0, |token| token.line);
    let mut parts = prefix.to_vec();
    if text(i) == "::" {
        i += 1;
    }
    loop {
        match text(i) {
            "{" if in_use => {
                i += 1;
                while i < tokens.len() && text(i) != "}" {
                    i = tree(tokens, i, &parts, in_use, module, out);
                    if text(i) == "," {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "*" if in_use => parts.push("*".into()),
            _ if tokens.get(i).is_some_and(Token::is_word) => parts.push(text(i).into()),
            // A macro's variable, a turbofish, or nothing that is known: the path ends, and reading goes on.
            _ => {
                i += 1;
                break;
            }
        }
        i += 1;
        if text(i) != "::" || !(in_use || tokens.get(i + 1).is_some_and(Token::is_word)) {
            break;
        }
        i += 1;
    }
    let mut name = parts.iter().rfind(|part| *part != "self").cloned();
    if in_use && text(i) == "as" {
        name = Some(text(i + 1).to_owned());
        i += 2;
    }
    if !parts.is_empty() {
        out.push(Found { line, parts: resolved(&parts, module), name: name.filter(|_| in_use), in_use });
    }
    i
}

fn resolved(parts: &[String], module: &[String]) -> Vec<String> {
    let is_own = |part: &String| ["honeycast", "crate"].contains(&part.as_str());
    let supers = parts.iter().take_while(|part| *part == "super" || *part == "self").count();
    if supers == 0 {
        let mut parts = parts.to_vec();
        // The binary and the documentation name the library by its name.
        if parts.len() > 1 && is_own(&parts[0]) {
            parts[0] = "crate".into();
        }
        return parts;
    }
    let up = parts[..supers].iter().filter(|part| *part == "super").count();
    let above = &module[..module.len().saturating_sub(up)];
    [&["crate".to_owned()], above, &parts[supers..]].concat()
}

/// Names that the file declares or imports: where one begins a path, it is not the crate of that name. What
/// it stands for was checked where it came in.
fn local_names(tokens: &[Token], paths: &[Found]) -> BTreeSet<String> {
    let declared = tokens.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text.clone());
    // `use axum::{self}` gives a crate its own name: that hides nothing.
    let imported = paths.iter().filter_map(|path| path.name.clone().filter(|name| *name != path.parts[0]));
    declared.chain(imported).collect()
}

/// The violations of a snippet in the file of `module`, without lines.
fn check(module: &str, text: &str) -> Vec<String> {
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    violations(&module, text).into_iter().map(|found| found.split_once(": ").unwrap().1.to_owned()).collect()
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    let upward = ["media must not import crate::control::Control"];
    for text in [
        "use crate::control::Control;",
        "pub use crate::control::{Control as Other};",
        "use crate::{base::StreamId, control::{Control}};",
        "fn f(c: &crate::control::Control) {}",
        "use super::super::control::Control;",
        "mod inner { use super::super::super::control::Control; }",
        "mod inner { } use super::super::control::Control;",
        "const A: char = '\"'; use crate::control::Control; const B: char = '\\'';",
        "fn f<'a>(a: &'a str) { x::<crate::control::Control>() }",
        "/* /* */ */ use crate::control::Control; // none",
        "macro_rules! m { ($x:ident) => { $crate::control::Control } }",
    ] {
        assert_eq!(check("media::rtp", text), upward, "{text}");
    }
    assert_eq!(
        violations(&["media".to_owned()], "\n/*\n*/\nuse\n  crate::control;"),
        ["5: media must not import crate::control"]
    );
}

#[test]
fn what_goes_down_or_is_no_code_passes() {
    for (module, text) in [
        ("control::engine", "use crate::{base::*, ingest::{IngestHandle, PortPlan}};\nuse super::handle::Reply;"),
        ("media::rtp", "// use crate::control;\n/// [`crate::control`]\nconst A: &str = \"use crate::control;\";"),
        ("media::rtp", "const A: &str = r#\"\" use crate::control; \"#; const B: &[u8] = b\"crate::control::x\";"),
        ("media", "#[cfg(test)]\nmod tests { use crate::control::Control; fn f() { Instant::now(); } }"),
        ("media", "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;\n#[cfg(test)]\nuse crate::control::{A, B};"),
        ("webrtc", "pub(in crate::webrtc) fn f() {} pub(crate) mod a; pub(super) fn g() {}"),
        ("signaling", "use crate::base::AllowedOrigins;"),
        ("main", "fn main() { honeycast::cli::main() }"),
        ("media::rtp", "pub mod rtcp { pub fn f() {} } fn g() { rtcp::f(); let tracing = 1; }"),
    ] {
        assert_eq!(check(module, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn neighbours_and_forbidden_details_are_found() {
    for (module, text, expected) in [
        ("ingest", "use crate::egress::EgressHandle;", "ingest must not import crate::egress::EgressHandle"),
        ("egress", "use crate::ingest::PortPlan;", "egress must not import crate::ingest::PortPlan"),
        ("http::views", "use crate::egress::ViewerStats;", "http must not import crate::egress::ViewerStats"),
        ("http", "use crate::mqtt::Link;", "http must not import crate::mqtt::Link"),
        ("http", "use crate::store::Store;", "http must not import crate::store::Store"),
        ("signaling", "use crate::http::serve;", "signaling must not import crate::http::serve"),
        ("signaling", "use crate::egress::CloseReason;", "signaling must not import crate::egress::CloseReason"),
        ("sim", "use crate::control::Control;", "sim must not import crate::control::Control"),
        ("config", "use crate::app;", "config must not import crate::app"),
        ("base", "use crate::telemetry::init;", "base must not import crate::telemetry::init"),
        ("media", "use crate::base::udp::bind;", "media must not import crate::base::udp::bind"),
        ("media", "use crate::new_one::X;", "media must not import crate::new_one::X"),
        ("media", "use crate::*;", "the crate's root must not be imported whole"),
        ("new_one", "use crate::base::X;", "new_one is not in the table of tests/layers.rs"),
        ("control", "pub mod testing;", "mod testing needs #[cfg(test)]"),
        ("control", "#[cfg(feature = \"x\")] mod engine_tests;", "mod engine_tests needs #[cfg(test)]"),
    ] {
        assert_eq!(check(module, text), [expected], "{text}");
    }
}

#[test]
fn foreign_engines_are_found_outside_their_folder() {
    let webrtc = "rtp may be named in src/webrtc only";
    for (module, text, expected) in [
        ("ingest", "use rtp::packet::Packet;", webrtc),
        ("ingest", "use ::rtp::packet::Packet;", webrtc),
        ("ingest", "use rtp;", webrtc),
        ("ingest", "fn f() -> rtp::packet::Packet { todo!() }", webrtc),
        ("egress", "use srtp::context::Context;", "srtp may be named in src/webrtc only"),
        ("control", "use rtc_crypto as c;", "rtc_crypto may be named in src/webrtc only"),
        ("app", "use axum::Router;", "axum may be named in src/http and src/signaling only"),
        ("app", "#[cfg(feature = \"x\")] use mqtt5::Broker;", "mqtt5 may be named in src/mqtt only"),
        ("control", "use redb::Database;", "redb may be named in src/store only"),
        ("app", "use axum::{self};", "axum may be named in src/http and src/signaling only"),
        ("sim", "use rumqttc::{Client};", "rumqttc may be named in src/mqtt only"),
    ] {
        assert_eq!(check(module, text), [expected], "{text}");
    }
    for (module, text) in [
        ("webrtc::ice", "use stun::message::Message;"),
        ("signaling", "use axum::extract::ws::WebSocket;"),
        ("ingest", "use crate::media::{rtp, rtcp::{self}};\nfn f() { rtp::classify(&[]); rtcp::blocks(&[]); }"),
        ("telemetry", "const A: &str = \"mqtt5=warn\"; struct S { rtp: u8 } fn f(s: S) { s.rtp; }"),
    ] {
        assert_eq!(check(module, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn clocks_sockets_and_logs_are_found_in_the_media_core() {
    for text in [
        "fn f() { let t = Instant::now(); }",
        "fn f() { std::time::SystemTime::now(); }",
        "fn f(t: Instant) { t.elapsed(); }",
        "use std::net::UdpSocket;",
        "use std::net::{IpAddr, TcpStream};",
        "use std::net;",
        "use tokio::time::sleep;",
        "use socket2::Socket;",
        "use quinn_udp::UdpState;",
        "fn f() { tracing::info!(\"x\"); }",
        "fn f() { std::thread::sleep(d); }",
    ] {
        assert_eq!(check("media::latch", text).len(), 1, "{text}: {:?}", check("media::latch", text));
    }
    let fine = "use std::net::{IpAddr, SocketAddr};\nuse std::time::{Duration, Instant};\nfn f(now: Instant) {}";
    assert_eq!(check("media::latch", fine), Vec::<String>::new());
}

#[test]
fn the_architecture_names_every_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut left: Vec<PathBuf> = ["src", "static", "config", "tests", "benches", "examples", "fuzz", "docs", "scripts"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    while let Some(folder) = left.pop() {
        let name = folder.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        assert!(text.contains(&format!("`{name}`")), "{name} is not in ARCHITECTURE.md");
        // Built, installed or grown, and one folder per fuzz target.
        let inside = |name: &str| !["target", "node_modules", "artifacts", "coverage", "corpus"].contains(&name);
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        left.extend(
            entries
                .filter(|entry| entry.file_type().unwrap().is_dir() && inside(entry.file_name().to_str().unwrap()))
                .map(|entry| entry.path()),
        );
    }
}
