//! Recipes: which variant of a version, as canonical bytes.
//!
//! A recipe is one line of JSON without spaces, its keys in the order of the alphabet (docs/format/recipe.md). Equal
//! recipes have equal bytes, and bytes that are not what [`Recipe::encode`] writes are no recipe. It names the rule
//! set that it was made under: another set is another recipe, and one that is not known here is refused by name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::compressed::{self, Scheme};
use crate::convert;
use crate::gguf::mixture::{self, Mixture};
use crate::limits::RECIPE_BYTES_MAX;

/// From which format to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Method {
    /// A GGUF file of another precision.
    GgufToGguf(Mixture),
    /// A GGUF file out of a folder of safetensors files.
    SafetensorsToGguf(Mixture),
    /// A folder of safetensors files of another precision.
    SafetensorsToSafetensors(Scheme),
}

impl Method {
    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::GgufToGguf(_) => "gguf-to-gguf",
            Self::SafetensorsToGguf(_) => "safetensors-to-gguf",
            Self::SafetensorsToSafetensors(_) => "safetensors-to-safetensors",
        }
    }

    fn precision(self) -> &'static str {
        match self {
            Self::GgufToGguf(mixture) | Self::SafetensorsToGguf(mixture) => mixture.name(),
            Self::SafetensorsToSafetensors(scheme) => scheme.name(),
        }
    }

    fn rules(self) -> &'static str {
        match self {
            Self::GgufToGguf(_) => mixture::RULES,
            Self::SafetensorsToGguf(_) => convert::RULES,
            Self::SafetensorsToSafetensors(_) => compressed::RULES,
        }
    }
}

/// The canonical description of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipe {
    method: Method,
    from_quantized: bool,
}

/// The bytes of a recipe, in the order of the alphabet.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    /// Reserved for an importance matrix: nothing yet.
    calibration: Option<()>,
    format: u32,
    from_quantized: bool,
    method: &'a str,
    precision: &'a str,
    rules: &'a str,
}

const FORMAT: u32 = 1;

/// Why bytes or a name are no recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// More bytes than any recipe has.
    #[error("a recipe of {0} bytes is longer than {max}", max = RECIPE_BYTES_MAX)]
    TooLong(usize),
    /// Not the canonical bytes of a recipe.
    #[error("not a recipe: {0}")]
    Malformed(String),
    /// A rule set of another version of Lode.
    #[error("the rule set {0:?} is not known here: another version of lode made this recipe")]
    Rules(String),
    /// No precision of this name.
    #[error("there is no variant {name:?} of this model; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All that there are.
        known: String,
    },
    /// The version holds no model that variants are made of.
    #[error("this version has no safetensors or GGUF model that variants are made from")]
    NoModel,
}

/// What ends the name of a variant whose source is itself quantized.
const FROM_QUANTIZED: &str = "-from-quantized";
/// What begins the name of a GGUF precision that is also one of safetensors.
const GGUF: &str = "gguf-";

/// Which formats a version holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Formats {
    gguf: bool,
    safetensors: bool,
}

impl Formats {
    fn of<'p>(paths: impl IntoIterator<Item = &'p str>) -> Self {
        let mut formats = Self {
            gguf: false,
            safetensors: false,
        };
        for path in paths {
            let ends = |extension: &str| {
                path.len() > extension.len()
                    && path
                        .get(path.len() - extension.len()..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(extension))
            };
            formats.gguf |= ends(".gguf");
            formats.safetensors |= ends(".safetensors");
        }
        formats
    }

    /// Every method, the most bits a weight first.
    fn methods(self) -> Vec<Method> {
        let mut methods = Vec::new();
        if self.safetensors {
            methods.extend(
                Scheme::ALL
                    .iter()
                    .map(|&s| Method::SafetensorsToSafetensors(s)),
            );
        }
        // Where both formats have a precision of one name, the name is that of the folder.
        let clashes =
            |mixture: Mixture| self.safetensors && Scheme::named(mixture.name()).is_some();
        let mixtures = Mixture::ALL.iter().copied();
        if self.gguf {
            methods.extend(mixtures.filter(|&m| !clashes(m)).map(Method::GgufToGguf));
        } else if self.safetensors {
            methods.extend(mixtures.map(Method::SafetensorsToGguf));
        }
        methods
    }
}

impl Recipe {
    /// Every recipe for a version with these files, one for each precision.
    pub fn all<'p>(paths: impl IntoIterator<Item = &'p str>) -> Vec<Self> {
        let methods = Formats::of(paths).methods();
        let recipe = |method| Self {
            method,
            from_quantized: false,
        };
        methods.into_iter().map(recipe).collect()
    }

    /// The recipe of this name for a version with these files. Case does not count.
    ///
    /// # Errors
    /// There is none, or the version holds no model.
    pub fn named<'p>(
        name: &str,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<Self, RecipeError> {
        let all = Self::all(paths);
        if all.is_empty() {
            return Err(RecipeError::NoModel);
        }
        let lower = name.to_ascii_lowercase();
        let (plain, from_quantized) = match lower.strip_suffix(FROM_QUANTIZED) {
            Some(plain) => (plain, true),
            None => (lower.as_str(), false),
        };
        let found = all.iter().find(|recipe| recipe.name() == plain);
        found
            .map(|recipe| Self {
                from_quantized,
                ..*recipe
            })
            .ok_or_else(|| RecipeError::Unknown {
                name: name.chars().take(SHOWN_CHARS).collect(),
                known: all.iter().map(Self::name).collect::<Vec<_>>().join(" "),
            })
    }

    /// The name that a user gives it, such as `q4_k_m`.
    pub fn name(&self) -> String {
        let precision = self.method.precision();
        let begin = match self.method {
            // A cast of safetensors files has the shorter name.
            Method::SafetensorsToGguf(_) if Scheme::named(precision).is_some() => GGUF,
            _ => "",
        };
        let end = if self.from_quantized {
            FROM_QUANTIZED
        } else {
            ""
        };
        format!("{begin}{precision}{end}")
    }

    /// From which format to which.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Whether it makes a GGUF file.
    pub fn makes_gguf(&self) -> bool {
        matches!(
            self.method,
            Method::GgufToGguf(_) | Method::SafetensorsToGguf(_)
        )
    }

    /// The precision, without what tells it from one of another format: `q4_k_m`, `bf16`.
    pub fn precision(&self) -> &'static str {
        self.method.precision()
    }

    /// Whether the source may itself be quantized.
    pub fn from_quantized(&self) -> bool {
        self.from_quantized
    }

    /// The rule set that it is made under, with its version.
    pub fn rules(&self) -> &'static str {
        self.method.rules()
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            calibration: None,
            format: FORMAT,
            from_quantized: self.from_quantized,
            method: self.method.name(),
            precision: self.method.precision(),
            rules: self.method.rules(),
        };
        serde_json::to_vec(&wire).expect("text and numbers are JSON")
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// They are not, or name a rule set that is not known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecipeError> {
        if bytes.len() > RECIPE_BYTES_MAX {
            return Err(RecipeError::TooLong(bytes.len()));
        }
        let malformed = |what: &str| RecipeError::Malformed(what.to_owned());
        let wire: Wire<'_> =
            serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        if wire.format != FORMAT {
            return Err(malformed("its format number is not known here"));
        }
        let mixture = || Mixture::named(wire.precision);
        let method = match wire.method {
            "gguf-to-gguf" => mixture().map(Method::GgufToGguf),
            "safetensors-to-gguf" => mixture().map(Method::SafetensorsToGguf),
            "safetensors-to-safetensors" => {
                Scheme::named(wire.precision).map(Method::SafetensorsToSafetensors)
            }
            _ => None,
        };
        let method =
            method.ok_or_else(|| malformed("its method or precision is not known here"))?;
        if wire.rules != method.rules() {
            return Err(RecipeError::Rules(
                wire.rules.chars().take(SHOWN_CHARS).collect(),
            ));
        }
        let recipe = Self {
            method,
            from_quantized: wire.from_quantized,
        };
        if recipe.encode() != bytes {
            return Err(malformed("its bytes are not canonical"));
        }
        Ok(recipe)
    }
}

/// Characters of a stranger's text that an error shows.
const SHOWN_CHARS: usize = 64;

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_comes_back_from_its_bytes_and_its_name() {
        for paths in [
            &["a.gguf"][..],
            &["m.safetensors"],
            &["a.GGUF", "m.safetensors"],
        ] {
            let all = Recipe::all(paths.iter().copied());
            for recipe in &all {
                assert_eq!(Recipe::decode(&recipe.encode()).as_ref(), Ok(recipe));
                let named = Recipe::named(&recipe.name().to_uppercase(), paths.iter().copied());
                assert_eq!(named.as_ref(), Ok(recipe));
            }
            let names: std::collections::BTreeSet<_> = all.iter().map(Recipe::name).collect();
            assert_eq!(names.len(), all.len(), "a name is given twice");
        }
    }

    #[test]
    fn a_quantized_source_is_said_openly() {
        let recipe = Recipe::named("q4_0-from-quantized", ["a.gguf"]).unwrap();
        assert!(recipe.from_quantized());
        assert_eq!(recipe.name(), "q4_0-from-quantized");
        assert_eq!(Recipe::decode(&recipe.encode()), Ok(recipe));
        assert_ne!(recipe, Recipe::named("q4_0", ["a.gguf"]).unwrap());
    }

    #[test]
    fn what_is_not_canonical_is_no_recipe() {
        let recipe = Recipe::named("q4_k_m", ["a.gguf"]).unwrap();
        let text = String::from_utf8(recipe.encode()).unwrap();
        assert_eq!(
            text,
            r#"{"calibration":null,"format":1,"from_quantized":false,"method":"gguf-to-gguf","precision":"q4_k_m","rules":"llama.cpp-2026-10"}"#
        );
        let malformed = |text: &str| {
            let found = Recipe::decode(text.as_bytes());
            assert!(
                matches!(found, Err(RecipeError::Malformed(_))),
                "{text}: {found:?}"
            );
        };
        malformed(&text.replace(",\"format\"", ", \"format\""));
        malformed(&text.replace("false,\"method\"", "false,\"more\":1,\"method\""));
        malformed(&text.replace("q4_k_m", "q9"));
        malformed(&text.replace(":1,", ":2,"));
        malformed("");
        let rules = Recipe::decode(text.replace("2026", "2031").as_bytes());
        assert_eq!(
            rules,
            Err(RecipeError::Rules("llama.cpp-2031-10".to_owned()))
        );
        let long = vec![b' '; RECIPE_BYTES_MAX + 1];
        assert_eq!(Recipe::decode(&long), Err(RecipeError::TooLong(long.len())));
    }

    #[test]
    fn unknown_names_are_answered_with_those_that_there_are() {
        let error = Recipe::named("q9", ["a.gguf"]).unwrap_err().to_string();
        assert!(
            error.contains("q4_k_m") && error.contains("\"q9\""),
            "{error}"
        );
        assert_eq!(Recipe::named("q8_0", ["a.txt"]), Err(RecipeError::NoModel));
    }
}
