//! Text that Postgres can store.

use std::borrow::Cow;
use std::sync::Arc;

/// Longest text in an index with other columns, in bytes; an index row can have 2,704 bytes. Event types are the names
/// of our schema files and far shorter, so this only keeps a malformed record from failing its batch.
const MAX_INDEXED_BYTES: usize = 255;

/// Separates the elements of a list that is sent as one text; see [`join`].
pub(crate) const SEPARATOR: char = '\u{1f}';

/// Postgres text cannot contain U+0000. It becomes U+FFFD, the replacement character.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// [`storable`] for a shared text, which stays shared if nothing must be replaced.
pub(crate) fn storable_shared(text: Arc<str>) -> Arc<str> {
    match storable(&text) {
        Cow::Owned(replaced) => replaced.into(),
        Cow::Borrowed(_) => text,
    }
}

pub(crate) fn indexed(text: &str) -> Cow<'_, str> {
    let end = text.floor_char_boundary(MAX_INDEXED_BYTES);
    storable(text.get(..end).unwrap_or(text))
}

/// Whether [`storable_list`] would leave the list as it is.
pub(crate) fn is_storable_list(list: &[String]) -> bool {
    !list.iter().any(|text| text.is_empty() || text.contains(['\0', SEPARATOR]))
}

/// A list in a form that can be stored: no U+0000, no separator, no empty elements.
pub(crate) fn storable_list(list: Vec<String>) -> Vec<String> {
    if is_storable_list(&list) {
        return list;
    }
    list.into_iter().filter(|text| !text.is_empty()).map(|text| text.replace(['\0', SEPARATOR], "\u{fffd}")).collect()
}

/// A list as one text, for `string_to_array`: `unnest` flattens arrays of arrays, so a list per row cannot be sent as
/// an array.
pub(crate) fn join(list: &[String]) -> String {
    let mut joined = String::new();
    for (index, text) in list.iter().enumerate() {
        if index > 0 {
            joined.push(SEPARATOR);
        }
        joined.push_str(text);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unstorable_is_left() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        assert!(matches!(storable("plain"), Cow::Borrowed("plain")));
        assert_eq!(storable_list(vec!["a\u{1f}b".into(), String::new(), "\0".into()]), ["a\u{fffd}b", "\u{fffd}"]);
        assert_eq!(join(&["a".into(), "b".into()]), "a\u{1f}b");
    }

    #[test]
    fn indexed_text_is_cut_between_characters() {
        assert_eq!(indexed(&"é".repeat(200)).len(), 254);
        assert_eq!(indexed("click"), "click");
    }
}
