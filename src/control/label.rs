//! What people write about a camera: its name and notes.

use serde::{Deserialize, Serialize};

/// Longest name, in characters.
pub const MAX_NAME: usize = 100;
/// Longest notes, in characters.
pub const MAX_NOTES: usize = 2_000;

/// Name and notes of a camera.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Label {
    /// One line, 1 to [`MAX_NAME`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Lines of text, 1 to [`MAX_NOTES`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

impl Label {
    /// Whether nobody has written anything.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.notes.is_none()
    }

    /// Without what no [`LabelChange`] could have written.
    pub(super) fn checked(self) -> Self {
        Self {
            name: self.name.and_then(|name| name_of(&name).ok().flatten()),
            notes: self.notes.and_then(|notes| notes_of(&notes).ok().flatten()),
        }
    }
}

/// New name and notes; `None` leaves what there is, `Some(None)` clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelChange {
    name: Option<Option<String>>,
    notes: Option<Option<String>>,
}

/// A text that is no name or no notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// It is above [`MAX_NAME`].
    #[error("name must have at most {MAX_NAME} characters")]
    NameTooLong,
    /// It holds a line break or another control character.
    #[error("name must be one line without control characters")]
    NameControl,
    /// They are above [`MAX_NOTES`].
    #[error("notes must have at most {MAX_NOTES} characters")]
    NotesTooLong,
    /// They hold a control character other than line breaks and tabs.
    #[error("notes must be without control characters, but for line breaks and tabs")]
    NotesControl,
}

impl LabelChange {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also sets the name; blanks at both ends are dropped, and `None` or nothing but blanks clears it.
    ///
    /// # Errors
    ///
    /// [`InvalidLabel`].
    pub fn name(self, name: Option<&str>) -> Result<Self, InvalidLabel> {
        Ok(Self { name: Some(name.map_or(Ok(None), name_of)?), ..self })
    }

    /// Also sets the notes, in the same way; lines end in LF.
    ///
    /// # Errors
    ///
    /// [`InvalidLabel`].
    pub fn notes(self, notes: Option<&str>) -> Result<Self, InvalidLabel> {
        Ok(Self { notes: Some(notes.map_or(Ok(None), notes_of)?), ..self })
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.notes.is_none()
    }

    pub(super) fn apply(self, label: &mut Label) {
        if let Some(name) = self.name {
            label.name = name;
        }
        if let Some(notes) = self.notes {
            label.notes = notes;
        }
    }
}

/// `None` for nothing but blanks.
fn name_of(text: &str) -> Result<Option<String>, InvalidLabel> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err(InvalidLabel::NameControl);
    }
    if text.chars().count() > MAX_NAME {
        return Err(InvalidLabel::NameTooLong);
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn notes_of(text: &str) -> Result<Option<String>, InvalidLabel> {
    let text = text.trim().replace("\r\n", "\n");
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(InvalidLabel::NotesControl);
    }
    if text.chars().count() > MAX_NOTES {
        return Err(InvalidLabel::NotesTooLong);
    }
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(change: LabelChange) -> Label {
        let mut label = Label::default();
        change.apply(&mut label);
        label
    }

    #[test]
    fn names_are_one_line_of_a_hundred_characters_and_notes_are_lines() {
        let long = "é".repeat(MAX_NAME);
        let good = label(LabelChange::new().name(Some(&format!(" {long} "))).unwrap());
        assert_eq!(good.name.as_deref(), Some(long.as_str()));
        let notes = label(LabelChange::new().notes(Some(" by the gate\r\n\tladder needed\n")).unwrap());
        assert_eq!(notes.notes.as_deref(), Some("by the gate\n\tladder needed"));

        let name = |text: &str| LabelChange::new().name(Some(text)).unwrap_err();
        assert_eq!(name(&"x".repeat(MAX_NAME + 1)), InvalidLabel::NameTooLong);
        for text in ["two\nlines", "a\u{1b}[31m", "a\tb", "\u{0}", "a\u{85}b"] {
            assert_eq!(name(text), InvalidLabel::NameControl, "{text:?}");
        }
        let notes = |text: &str| LabelChange::new().notes(Some(text)).unwrap_err();
        assert_eq!(notes(&"x".repeat(MAX_NOTES + 1)), InvalidLabel::NotesTooLong);
        assert_eq!(notes("a\u{1b}[31m"), InvalidLabel::NotesControl);
        assert_eq!(notes("a\rb"), InvalidLabel::NotesControl);
    }

    #[test]
    fn what_is_not_named_stays_and_null_or_blanks_clear() {
        let mut label = label(LabelChange::new().name(Some("gate")).unwrap().notes(Some("n")).unwrap());
        LabelChange::new().name(Some("door")).unwrap().apply(&mut label);
        assert_eq!((label.name.as_deref(), label.notes.as_deref()), (Some("door"), Some("n")));
        LabelChange::new().name(None).unwrap().notes(Some("  ")).unwrap().apply(&mut label);
        assert!(label.is_empty());
        assert!(LabelChange::new().is_empty() && !LabelChange::new().name(None).unwrap().is_empty());
    }
}
