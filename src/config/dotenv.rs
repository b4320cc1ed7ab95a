//! The `.env` file that the old service read: `NAME=value` lines, `#` comments, optional quotes and `export`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::load::Problem;

/// Reads the file; a missing one is empty.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => {
            let text = format!("cannot be read: {error}");
            problems.push(Problem { key: path.display().to_string(), origin: None, text });
            BTreeMap::new()
        }
    }
}

fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            (!line.starts_with('#')).then(|| (name.trim().to_owned(), unquote(value.trim())))
        })
        .collect()
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some((inner, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.to_owned();
        }
    }
    // A comment after a bare value needs a space before it.
    value.split(" #").next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_quotes_comments_and_export_are_read() {
        let parsed = parse("A=1\n# B=2\nexport C='x # y'\nD=\"q\" # c\nE=plain # c\nnonsense\nF=\n");
        let get = |name: &str| parsed.get(name).map(String::as_str);
        assert_eq!(
            [get("A"), get("B"), get("C"), get("D"), get("E"), get("F")],
            [Some("1"), None, Some("x # y"), Some("q"), Some("plain"), Some("")]
        );
    }
}
