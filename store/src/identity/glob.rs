//! Which models a delegation covers: names in which `*` stands for any run of characters.

use crate::document::DocumentError;
use crate::limits::MODEL_BYTES_MAX;

/// Checks that `glob` is one: characters of models' names and `*`, at most as long as a name.
///
/// # Errors
/// [`DocumentError::Invalid`].
pub fn check_glob(glob: &str) -> Result<(), DocumentError> {
    let permitted = |b: u8| b.is_ascii_alphanumeric() || b"._-*".contains(&b);
    if (1..=MODEL_BYTES_MAX).contains(&glob.len()) && glob.bytes().all(permitted) {
        Ok(())
    } else {
        Err(DocumentError::invalid(
            "globs",
            format!("{glob:?} is not a glob of models' names"),
        ))
    }
}

/// Whether `glob` matches all of `text`, case-sensitively.
///
/// If `text` is a glob itself, this says whether all that it matches is matched by `glob`: no
/// character of a glob but `*` matches a `*`.
pub fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at_glob, mut at_text) = (0, 0);
    // where to go on after the last `*`: it may take one more character each time
    let mut retry = None;
    while at_text < text.len() {
        if glob.get(at_glob) == Some(&b'*') {
            retry = Some((at_glob + 1, at_text));
            at_glob += 1;
        } else if glob.get(at_glob) == Some(&text[at_text]) {
            (at_glob, at_text) = (at_glob + 1, at_text + 1);
        } else if let Some((after_star, taken)) = retry {
            retry = Some((after_star, taken + 1));
            (at_glob, at_text) = (after_star, taken + 1);
        } else {
            return false;
        }
    }
    glob[at_glob..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, as slow as can be.
    fn model(glob: &[u8], text: &[u8]) -> bool {
        match (glob.first(), text.first()) {
            (Some(b'*'), _) => {
                model(&glob[1..], text) || (!text.is_empty() && model(glob, &text[1..]))
            }
            (Some(g), Some(t)) => g == t && model(&glob[1..], &text[1..]),
            (None, None) => true,
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_defined(glob in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches(&glob, &text), model(glob.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn a_glob_covered_by_another_matches_nothing_more(wide in "[ab*]{1,5}", narrow in "[ab*]{1,5}", text in "[ab]{0,8}") {
            if matches(&wide, &narrow) && matches(&narrow, &text) {
                prop_assert!(matches(&wide, &text));
            }
        }
    }

    #[test]
    fn a_glob_has_the_characters_and_length_of_a_name() {
        assert!(check_glob("*").is_ok());
        assert!(check_glob("team-*_v1.x").is_ok());
        assert!(check_glob("").is_err());
        assert!(check_glob("a/b").is_err());
        assert!(check_glob("[ab]").is_err());
        assert!(check_glob(&"a".repeat(MODEL_BYTES_MAX)).is_ok());
        assert!(check_glob(&"a".repeat(MODEL_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let glob = "*a".repeat(40);
        assert!(!matches(&glob, &"a".repeat(39)));
        assert!(!matches(&format!("{glob}b"), &"a".repeat(90)));
    }
}
