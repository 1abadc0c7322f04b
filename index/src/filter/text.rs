//! The short form of filters for people: `tag = "libs" and year >= 2020`.
//!
//! ```text
//! filter     := and ("or" and)*
//! and        := unary ("and" unary)*
//! unary      := "not" unary | "(" filter ")" | test
//! test       := path ("=" | "!=" | "<" | "<=" | ">" | ">=") value
//!             | path "~" text                        has all words of the text
//!             | path ["not"] "in" "(" value, .. ")"
//!             | path "is" ["not"] ("null" | "empty")
//! path       := a.b, a[].b, a[0], "a.b".c; @id is the point's id
//! value      := "text" | 'text' | number | true | false
//! ```

use std::collections::BTreeSet;

use super::{Condition, Filter, Range, Scalar, Test, TextQuery};
use crate::{
    datetime::parse_datetime,
    id::PointId,
    limits::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FILTER_TEXT_BYTES_MAX},
    payload::PayloadPath,
};

/// Text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter, at character {at}: {what}")]
pub struct FilterTextError {
    /// Characters before what is wrong.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

impl std::str::FromStr for Filter {
    type Err = FilterTextError;

    fn from_str(text: &str) -> Result<Self, FilterTextError> {
        let mut parser = Parser {
            text,
            at: 0,
            conditions: 0,
        };
        if text.len() > FILTER_TEXT_BYTES_MAX {
            return Err(parser.wrong(format!("more than {FILTER_TEXT_BYTES_MAX} bytes")));
        }
        if parser.peek().is_none() {
            return Ok(Self::default());
        }
        let condition = parser.any(0)?;
        match parser.peek() {
            None => Ok(flat(condition)),
            Some(_) => Err(parser.wrong("expected \"and\", \"or\" or the end")),
        }
    }
}

/// The filter that a condition is, without a level around it that says nothing.
fn flat(condition: Condition) -> Filter {
    match condition {
        Condition::Filter(filter) => *filter,
        other => Filter::of(other),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    conditions: usize,
}

impl<'a> Parser<'a> {
    fn wrong(&self, what: impl Into<String>) -> FilterTextError {
        let at = self.text[..self.at].chars().count();
        FilterTextError {
            at,
            what: what.into(),
        }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest.chars().next()
    }

    /// Takes a sign, if it is next.
    fn sign(&mut self, sign: &str) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    /// Takes a word in whatever case, if it is next and ends there.
    fn word(&mut self, word: &str) -> bool {
        self.peek();
        let rest = &self.text[self.at..];
        let found = rest
            .get(..word.len())
            .is_some_and(|next| next.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(is_path_char);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn any(&mut self, depth: usize) -> Result<Condition, FilterTextError> {
        let mut parts = vec![self.all(depth)?];
        while self.word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(match parts.len() {
            1 => parts.swap_remove(0),
            _ => Condition::Filter(Box::new(Filter {
                should: parts,
                ..Filter::default()
            })),
        })
    }

    fn all(&mut self, depth: usize) -> Result<Condition, FilterTextError> {
        let mut parts = vec![self.unary(depth)?];
        while self.word("and") {
            parts.push(self.unary(depth)?);
        }
        Ok(match parts.len() {
            1 => parts.swap_remove(0),
            _ => Condition::Filter(Box::new(Filter {
                must: parts,
                ..Filter::default()
            })),
        })
    }

    fn unary(&mut self, depth: usize) -> Result<Condition, FilterTextError> {
        if depth >= FILTER_DEPTH_MAX {
            return Err(self.wrong(format!("nested more than {FILTER_DEPTH_MAX} deep")));
        }
        if self.word("not") {
            return Ok(not(self.unary(depth + 1)?));
        }
        if self.sign("(") {
            let inner = self.any(depth + 1)?;
            return match self.sign(")") {
                true => Ok(inner),
                false => Err(self.wrong("expected \")\"")),
            };
        }
        self.conditions += 1;
        if self.conditions > FILTER_CONDITIONS_MAX {
            return Err(self.wrong(format!("more than {FILTER_CONDITIONS_MAX} conditions")));
        }
        self.test()
    }

    fn test(&mut self) -> Result<Condition, FilterTextError> {
        if self.sign("@id") {
            return self.id();
        }
        let path = self.path()?;
        let field = |test| Condition::Field(path.clone(), test);
        if self.word("is") {
            let negated = self.word("not");
            let condition = if self.word("null") {
                Condition::IsNull(path)
            } else if self.word("empty") {
                Condition::IsEmpty(path)
            } else {
                return Err(self.wrong("expected \"null\" or \"empty\""));
            };
            return Ok(if negated { not(condition) } else { condition });
        }
        if self.sign("~") {
            let query = TextQuery::new(
                self.string()?
                    .ok_or_else(|| self.wrong("expected a text"))?,
            );
            return Ok(field(Test::Text(query)));
        }
        let negated = self.word("not");
        if self.word("in") {
            let scalars: BTreeSet<_> = self.list(&mut |parser| parser.scalar())?;
            let any = field(Test::Any(scalars));
            return Ok(if negated { not(any) } else { any });
        }
        if negated {
            return Err(self.wrong("expected \"in\""));
        }
        for (sign, negated) in [("!=", true), ("=", false)] {
            if self.sign(sign) {
                let equal = match self.value()? {
                    Operand::Float(number) => {
                        let bound = Some(number);
                        field(Test::Range(Range {
                            gte: bound,
                            lte: bound,
                            ..Range::default()
                        }))
                    }
                    Operand::Scalar(scalar) => field(Test::Value(scalar)),
                };
                return Ok(if negated { not(equal) } else { equal });
            }
        }
        for sign in ["<=", ">=", "<", ">"] {
            if self.sign(sign) {
                let test = match self.value()? {
                    Operand::Float(number) => Test::Range(one_sided(sign, number)),
                    #[expect(clippy::cast_precision_loss, reason = "ranges are of floats")]
                    Operand::Scalar(Scalar::Integer(number)) => {
                        Test::Range(one_sided(sign, number as f64))
                    }
                    Operand::Scalar(Scalar::Text(text)) => {
                        let time = parse_datetime(&text);
                        let time = time.ok_or_else(|| self.wrong("neither number nor time"))?;
                        Test::Datetime(one_sided(sign, time))
                    }
                    Operand::Scalar(Scalar::Bool(_)) => {
                        return Err(self.wrong("true and false have no order"));
                    }
                };
                return Ok(field(test));
            }
        }
        Err(self.wrong("expected =, !=, <, <=, >, >=, ~, in or is"))
    }

    fn id(&mut self) -> Result<Condition, FilterTextError> {
        let mut read = |parser: &mut Self| {
            let id = match parser.string()? {
                Some(text) => text.parse().ok(),
                None => parser.bare().parse().ok(),
            };
            id.ok_or_else(|| parser.wrong("expected an id: a number or a UUID"))
        };
        if self.sign("=") {
            return Ok(Condition::HasId([read(self)?].into()));
        }
        if self.sign("!=") {
            return Ok(not(Condition::HasId([read(self)?].into())));
        }
        let negated = self.word("not");
        if !self.word("in") {
            return Err(self.wrong("expected =, != or in"));
        }
        let ids: BTreeSet<PointId> = self.list(&mut read)?;
        let has = Condition::HasId(ids);
        Ok(if negated { not(has) } else { has })
    }

    fn list<T: Ord>(
        &mut self,
        read: &mut dyn FnMut(&mut Self) -> Result<T, FilterTextError>,
    ) -> Result<BTreeSet<T>, FilterTextError> {
        if !self.sign("(") {
            return Err(self.wrong("expected \"(\""));
        }
        let mut found = BTreeSet::new();
        if self.sign(")") {
            return Ok(found);
        }
        loop {
            found.insert(read(self)?);
            if self.sign(")") {
                return Ok(found);
            }
            if !self.sign(",") {
                return Err(self.wrong("expected \",\" or \")\""));
            }
        }
    }

    fn path(&mut self) -> Result<PayloadPath, FilterTextError> {
        self.peek();
        let start = self.at;
        let mut quoted = false;
        let end = self.text[start..].find(|c: char| {
            quoted ^= c == '"';
            !(quoted || c == '"' || is_path_char(c))
        });
        self.at = end.map_or(self.text.len(), |end| start + end);
        let text = &self.text[start..self.at];
        text.parse().map_err(|e: crate::payload::PathError| {
            self.at = start;
            self.wrong(e.to_string())
        })
    }

    /// Quoted text, if it is next; a backslash takes the character after it as it is.
    fn string(&mut self) -> Result<Option<String>, FilterTextError> {
        let Some(quote @ ('"' | '\'')) = self.peek() else {
            return Ok(None);
        };
        let start = self.at + 1;
        let mut text = String::new();
        let mut chars = self.text[start..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, taken)) => text.push(taken),
                    None => break,
                },
                c if c == quote => {
                    self.at = start + at + c.len_utf8();
                    return Ok(Some(text));
                }
                c => text.push(c),
            }
        }
        Err(self.wrong("a quote is not closed"))
    }

    /// What stands there without quotes.
    fn bare(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let is_bare = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let end = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn value(&mut self) -> Result<Operand, FilterTextError> {
        if let Some(text) = self.string()? {
            return Ok(Operand::Scalar(Scalar::Text(text)));
        }
        let start = self.at;
        let bare = self.bare();
        let found = match bare {
            "true" => Some(Operand::Scalar(Scalar::Bool(true))),
            "false" => Some(Operand::Scalar(Scalar::Bool(false))),
            number => match number.parse() {
                Ok(integer) => Some(Operand::Scalar(Scalar::Integer(integer))),
                Err(_) => number
                    .parse()
                    .ok()
                    .filter(|n: &f64| n.is_finite())
                    .map(Operand::Float),
            },
        };
        found.ok_or_else(|| {
            self.at = start;
            self.wrong("expected a number, true, false or a text in quotes")
        })
    }

    fn scalar(&mut self) -> Result<Scalar, FilterTextError> {
        match self.value()? {
            Operand::Scalar(scalar) => Ok(scalar),
            Operand::Float(_) => Err(self.wrong("lists hold text, integers, true and false")),
        }
    }
}

enum Operand {
    Scalar(Scalar),
    Float(f64),
}

fn is_path_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']' | '$')
}

fn not(condition: Condition) -> Condition {
    Condition::Filter(Box::new(Filter {
        must_not: vec![condition],
        ..Filter::default()
    }))
}

fn one_sided<T>(sign: &str, bound: T) -> Range<T> {
    let mut range = Range::default();
    let side = match sign {
        "<" => &mut range.lt,
        "<=" => &mut range.lte,
        ">" => &mut range.gt,
        _ => &mut range.gte,
    };
    *side = Some(bound);
    range
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn means(text: &str, json: &Value) {
        let filter: Filter = text.parse().unwrap();
        assert_eq!(filter.to_json(), *json, "{text}");
    }

    #[test]
    fn the_short_form_means_what_json_means() {
        let tag = json!({"key": "tag", "match": {"value": "libs"}});
        let year = json!({"key": "year", "range": {"gte": 2020.0}});
        means(
            "tag = \"libs\" and year >= 2020",
            &json!({"must": [tag, year]}),
        );
        means("tag = 'libs'", &json!({"must": [tag]}));
        means("tag != \"libs\"", &json!({"must_not": [tag]}));
        let both = json!({"filter": {"must": [tag, year]}});
        means(
            "a is null or tag = \"libs\" and year >= 2020",
            &json!({
            "should": [{"is_null": {"key": "a"}}, both]}),
        );
        means(
            "not (a is empty or b is not null)",
            &json!({"must_not": [{"filter": {"should": [
            {"is_empty": {"key": "a"}}, {"filter": {"must_not": [{"is_null": {"key": "b"}}]}}]}}]}),
        );
        means(
            "a[].b in (1, \"x\", true)",
            &json!({"must": [
            {"key": "a[].b", "match": {"any": [true, 1, "x"]}}]}),
        );
        means(
            "t < \"2024-01-01\" AND d ~ \"two words\"",
            &json!({"must": [
            {"key": "t", "range": {"lt": "2024-01-01T00:00:00Z"}},
            {"key": "d", "match": {"text": "two words"}}]}),
        );
        means(
            "@id in (1, 550e8400-e29b-41d4-a716-446655440000)",
            &json!({"must": [
            {"has_id": [1, "550e8400-e29b-41d4-a716-446655440000"]}]}),
        );
        means(
            "x = 1.5",
            &json!({"must": [{"key": "x", "range": {"gte": 1.5, "lte": 1.5}}]}),
        );
        means(
            "\"a b\".c = \"say \\\"hi\\\"\"",
            &json!({"must": [
            {"key": "\"a b\".c", "match": {"value": "say \"hi\""}}]}),
        );
        means("  ", &json!({}));
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        for (text, at, said) in [
            ("tag = ", 6, "expected a number"),
            ("tag = \"x", 6, "not closed"),
            ("tag \"x\"", 4, "expected ="),
            ("(a = 1", 6, "expected \")\""),
            ("a = 1 b = 2", 6, "expected \"and\""),
            ("a < true", 8, "no order"),
            ("a < \"x\"", 7, "neither number nor time"),
            ("a not 1", 6, "expected \"in\""),
            ("é = x", 4, "expected a number"),
        ] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.what.contains(said), "{text}: {error}");
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }

    #[test]
    fn one_more_than_a_bound_is_refused() {
        let many = |count: usize| vec!["a=1"; count].join(" or ");
        assert!(many(FILTER_CONDITIONS_MAX).parse::<Filter>().is_ok());
        assert!(many(FILTER_CONDITIONS_MAX + 1).parse::<Filter>().is_err());
        let deep = |depth: usize| format!("{}a=1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(deep(FILTER_DEPTH_MAX - 1).parse::<Filter>().is_ok());
        assert!(deep(FILTER_DEPTH_MAX).parse::<Filter>().is_err());
        let long = format!("a = \"{}\"", "x".repeat(FILTER_TEXT_BYTES_MAX - 6));
        assert!(long.parse::<Filter>().is_ok());
        assert!(format!("{long} ").parse::<Filter>().is_err());
    }
}
