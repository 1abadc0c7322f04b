//! The text of a token: `hf_` and 36 letters and digits, since programs made for the Hub send no other.
//!
//! Each of the 36 is one of 62, drawn evenly: 36 x log2(62) = 214 bits. So guessing is hopeless, and a
//! plain hash is enough to keep: there is nothing for slow hashing to make up for.

use std::fmt;

use super::TokenError;

/// What every token starts with.
const PREFIX: &str = "hf_";

/// Letters and digits after it.
const DRAWN: usize = 36;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Tells these hashes from all others of the same text.
const CONTEXT: &str = "lode 2026 token of a home";

/// The text of a token. It is not shown by `Debug`.
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Draws one with the operating system's randomness.
    pub(super) fn generate() -> Result<Self, TokenError> {
        let mut text = String::with_capacity(PREFIX.len() + DRAWN);
        text.push_str(PREFIX);
        let mut random = [0; 64];
        while text.len() < PREFIX.len() + DRAWN {
            getrandom::fill(&mut random)
                .map_err(|error| TokenError::Randomness(error.to_string()))?;
            // Six bits name one of 64; what names none of the 62 is drawn again, so all are as likely.
            let drawn = random
                .iter()
                .filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
            let missing = PREFIX.len() + DRAWN - text.len();
            text.extend(drawn.take(missing).map(|byte| char::from(*byte)));
        }
        Ok(Self(text))
    }

    /// The text, to be handed out once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn digest(&self) -> blake3::Hash {
        hash(self.0.as_bytes())
    }
}

/// The hash of a text that could be a token; nothing for one that cannot, which is not even hashed.
pub(super) fn digest(text: &[u8]) -> Option<blake3::Hash> {
    let drawn = text.strip_prefix(PREFIX.as_bytes())?;
    let fits = drawn.len() == DRAWN && drawn.iter().all(u8::is_ascii_alphanumeric);
    fits.then(|| hash(text))
}

fn hash(text: &[u8]) -> blake3::Hash {
    blake3::derive_key(CONTEXT, text).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_token_has_the_form_that_clients_of_the_hub_send() {
        let secret = Secret::generate().unwrap();
        assert_eq!(secret.expose().len(), 39);
        assert_eq!(digest(secret.expose().as_bytes()), Some(secret.digest()));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn all_letters_and_digits_are_drawn_and_no_two_tokens_are_alike() {
        let secrets: BTreeSet<_> = (0..200).map(|_| Secret::generate().unwrap().0).collect();
        assert_eq!(secrets.len(), 200);
        let drawn: BTreeSet<_> = secrets.iter().flat_map(|text| text[3..].bytes()).collect();
        // 7,200 draws leave one of 62 out with a chance below 1e-48.
        assert_eq!(drawn.len(), ALPHABET.len());
    }

    #[test]
    fn what_has_not_the_form_is_not_looked_up() {
        let good = "hf_".to_owned() + &"a".repeat(DRAWN);
        assert!(digest(good.as_bytes()).is_some());
        for bad in [
            String::new(),
            "hf_".to_owned(),
            good[..good.len() - 1].to_owned(),
            good.clone() + "a",
            good.replace("hf_", "hg_"),
            good.replacen('a', "-", 1),
            good.replacen('a', "\0", 1),
            good.replacen("aa", "\u{e4}", 1),
        ] {
            assert!(digest(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
