//! Who is asking: the owner, the bearer of a token, or anyone.
//!
//! HTTP on loopback is the owner's until there is a token, and so is every address of a node that was
//! started `--insecure-open`. From the first token on, tokens rule. A page of another site is never the
//! owner, whatever the door. Tokens come as `Authorization: Bearer`, as the password of `Basic`, or as
//! `api-key`; never in an address, which ends up in logs.

use std::sync::Arc;

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName},
};
use lode_node::tokens::{Power, Token, Tokens, Unwelcome};
use lode_store::access::{Caller, TokenScopes};

use crate::{
    answer::Problem,
    guard::{Door, Http, Origin},
    kept::Whose,
    limits::CREDENTIAL_BYTES_MAX,
    policy::Policy,
};

const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Who sent a request.
#[derive(Debug, Clone)]
pub struct Visitor {
    who: Who,
    door: Door,
    page: Origin,
    /// Whether those without a token may read what is public.
    anonymous: bool,
}

#[derive(Debug, Clone)]
enum Who {
    Owner,
    Bearer(Arc<Token>, Arc<TokenScopes>),
    Anyone,
    /// Who has what was handed out for uploads, and no token.
    Granted,
    Unwelcome {
        why: Unwelcome,
        /// Whether it looked like a token; addresses that were given out come with other texts.
        guessed: bool,
    },
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted<'a> {
    /// Nobody counts the owner's.
    Not,
    /// A token's.
    Token(&'a Token),
    /// Those from an address, without a token.
    Address,
    /// Those from an address, with what might be a guess at a token.
    Wrong,
}

impl Visitor {
    /// The owner, through the socket in the home.
    pub fn owner() -> Self {
        Self {
            who: Who::Owner,
            door: Door::Socket,
            page: Origin::Own,
            anonymous: true,
        }
    }

    /// Who shows what was handed out for uploads.
    pub(crate) fn granted(http: Http, page: Origin) -> Self {
        Self {
            who: Who::Granted,
            door: Door::Http(http),
            page,
            anonymous: false,
        }
    }

    /// Whoever something was handed out to, as far as that still holds, at the door where it is shown.
    ///
    /// # Errors
    /// The home cannot be read; the loopback is not the owner's any more.
    pub(crate) fn on_behalf(
        &self,
        whose: Whose,
        policy: &Policy,
        tokens: Option<&Tokens>,
    ) -> Result<Self, Problem> {
        let tokens = tokens.filter(|tokens| tokens.rule());
        let who = match (whose, tokens) {
            (Whose::Token(id), Some(tokens)) => match tokens.current(id) {
                Ok(token) => bearer(tokens, token)?,
                Err(why) => Who::Unwelcome {
                    why,
                    guessed: false,
                },
            },
            (Whose::Owner, None) => Who::Owner,
            (Whose::Anyone, _) => Who::Anyone,
            (Whose::Token(_), None) | (Whose::Owner, Some(_)) => {
                return Err(Problem::unauthorized("this node wants a token"));
            }
        };
        Ok(Self {
            who,
            anonymous: policy.anonymous,
            ..self.clone()
        })
    }

    /// Who came through an HTTP door.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn of(
        policy: &Policy,
        tokens: Option<&Tokens>,
        http: Http,
        page: Origin,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let who = match tokens.filter(|tokens| tokens.rule()) {
            Some(tokens) => match credential(headers) {
                None => Who::Anyone,
                Some(text) => match tokens.find(&text) {
                    Ok(token) => bearer(tokens, token)?,
                    Err(why) => Who::Unwelcome {
                        why,
                        guessed: text.starts_with(b"hf_"),
                    },
                },
            },
            None if page == Origin::Own && (http.loopback || policy.insecure_open) => Who::Owner,
            None => Who::Anyone,
        };
        Ok(Self {
            who,
            door: Door::Http(http),
            page,
            anonymous: policy.anonymous,
        })
    }

    /// Whether it showed a token that holds.
    pub fn has_token(&self) -> bool {
        matches!(self.who, Who::Bearer(..) | Who::Granted)
    }

    /// The token that it showed.
    pub fn token(&self) -> Option<&Arc<Token>> {
        match &self.who {
            Who::Bearer(token, _) => Some(token),
            _ => None,
        }
    }

    pub(crate) fn counted(&self) -> Counted<'_> {
        match &self.who {
            // Who was counted when it was handed out.
            Who::Owner | Who::Granted => Counted::Not,
            Who::Bearer(token, _) => Counted::Token(token),
            Who::Anyone => Counted::Address,
            Who::Unwelcome { guessed: true, .. } => Counted::Wrong,
            Who::Unwelcome { .. } => Counted::Address,
        }
    }

    /// As the access function knows who may read.
    ///
    /// # Errors
    /// 401 with a token that does not hold, or where everyone needs one.
    pub fn reads(&self) -> Result<Caller, Problem> {
        match &self.who {
            Who::Owner => Ok(Caller::Owner),
            Who::Bearer(token, _) if token.power == Power::Admin => Ok(Caller::Owner),
            Who::Bearer(_, scopes) => Ok(Caller::Token(Arc::clone(scopes))),
            Who::Anyone if self.anonymous => Ok(Caller::Anonymous),
            Who::Anyone => Err(Problem::unauthorized("this node wants a token")),
            Who::Granted => Err(granted()),
            Who::Unwelcome { why, .. } => Err(unwelcome(*why)),
        }
    }

    /// That it may change some model.
    ///
    /// # Errors
    /// 401 without a token, 403 with one that is for reading.
    pub fn check_writes(&self) -> Result<(), Problem> {
        self.check(Power::Write)
    }

    /// That it acts as the owner.
    ///
    /// # Errors
    /// 401 without a token, 403 with one that is for less.
    pub fn check_admin(&self) -> Result<(), Problem> {
        self.check(Power::Admin)
    }

    /// That it is a program of the owner, on this machine.
    ///
    /// # Errors
    /// 403 through every door but the socket.
    pub fn check_control(&self) -> Result<(), Problem> {
        match self.door {
            Door::Socket => Ok(()),
            Door::Http(_) => Err(Problem::refused(
                "commands are taken on the socket in the home alone",
            )),
        }
    }

    fn check(&self, needed: Power) -> Result<(), Problem> {
        let scope = needed.as_str();
        match &self.who {
            // Letting pages of a site read is not letting them change things.
            _ if self.page == Origin::Foreign => Err(Problem::refused(
                "pages of other sites may read this node, and no more",
            )),
            Who::Owner => Ok(()),
            Who::Bearer(token, _) if token.power >= needed => Ok(()),
            Who::Bearer(token, _) => {
                let power = token.power.as_str();
                let message =
                    format!("this needs a token of scope {scope}, and yours is for {power}");
                Err(Problem::refused(message).advise(format!("lode token create --scope {scope}")))
            }
            Who::Anyone => Err(Problem::unauthorized(format!(
                "this needs a token of scope {scope}"
            ))),
            Who::Granted => Err(granted()),
            Who::Unwelcome { why, .. } => Err(unwelcome(*why)),
        }
    }
}

fn granted() -> Problem {
    Problem::refused("this was handed out for uploads, and is good for nothing else")
}

fn unwelcome(why: Unwelcome) -> Problem {
    Problem::unauthorized(why.to_string())
        .advise("`lode token ls` on the node's machine lists those that hold")
}

/// Who shows a token that holds.
fn bearer(tokens: &Tokens, token: Arc<Token>) -> Result<Who, Problem> {
    let scopes = tokens.scopes(&token);
    let scopes = scopes.map_err(lode_node::command::Failure::from)?;
    Ok(Who::Bearer(token, scopes))
}

/// What was shown as a token; text that cannot be one where that is not to be made out.
pub fn credential(headers: &HeaderMap) -> Option<Vec<u8>> {
    let shown = headers
        .get_all(AUTHORIZATION)
        .iter()
        .map(|value| authorization(value.as_bytes()));
    let keys = headers
        .get_all(API_KEY)
        .iter()
        .map(|value| value.as_bytes().to_vec());
    let mut shown = shown.chain(keys);
    let first = shown.next()?;
    // Who shows several things may mean any of them.
    match shown.all(|other| other == first) && first.len() <= CREDENTIAL_BYTES_MAX {
        true => Some(first),
        false => Some(Vec::new()),
    }
}

fn authorization(value: &[u8]) -> Vec<u8> {
    let at = value.iter().position(|byte| *byte == b' ');
    let (scheme, rest) = value.split_at(at.unwrap_or(value.len()));
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return rest.to_vec();
    }
    if scheme.eq_ignore_ascii_case(b"basic") && rest.len() <= 2 * CREDENTIAL_BYTES_MAX {
        // The user's name is whatever the client likes; git and Docker cannot leave it out.
        let decoded = data_encoding::BASE64.decode(rest).unwrap_or_default();
        let colon = decoded.iter().position(|byte| *byte == b':');
        return colon.map_or_else(Vec::new, |colon| decoded[colon + 1..].to_vec());
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hyper::header::HeaderValue;

    fn shown(pairs: &[(&'static str, &[u8])]) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        credential(&headers)
    }

    #[test]
    fn a_token_is_found_wherever_clients_put_it() {
        let token = Some(b"hf_x".to_vec());
        assert_eq!(shown(&[("authorization", b"Bearer hf_x")]), token);
        assert_eq!(shown(&[("authorization", b"bearer   hf_x ")]), token);
        assert_eq!(shown(&[("api-key", b"hf_x")]), token);
        let basic = |text: &[u8]| format!("Basic {}", data_encoding::BASE64.encode(text));
        assert_eq!(
            shown(&[("authorization", basic(b"user:hf_x").as_bytes())]),
            token
        );
        assert_eq!(
            shown(&[("authorization", basic(b":hf_x").as_bytes())]),
            token
        );
        let both: [(&str, &[u8]); 2] = [("api-key", b"hf_x"), ("authorization", b"Bearer hf_x")];
        assert_eq!(shown(&both), token);
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn junk_is_something_that_is_no_token() {
        let long = [b"Bearer ".as_slice(), &[b'a'; CREDENTIAL_BYTES_MAX + 1]].concat();
        for value in [
            &b""[..],
            b"Bearer",
            b"Bearer ",
            b"Basic",
            b"Basic !!",
            b"Basic aGY=",
            b"Negotiate hf_x",
            b"hf_x",
            b"\xff\xfe",
            &long,
        ] {
            assert_eq!(
                shown(&[("authorization", value)]),
                Some(Vec::new()),
                "{value:?}"
            );
        }
        let two: [(&str, &[u8]); 2] = [("api-key", b"hf_x"), ("authorization", b"Bearer hf_y")];
        assert_eq!(shown(&two), Some(Vec::new()));
        let most = [b"Bearer ".as_slice(), &[b'a'; CREDENTIAL_BYTES_MAX]].concat();
        assert_eq!(
            shown(&[("authorization", &most)]).unwrap().len(),
            CREDENTIAL_BYTES_MAX
        );
    }
}
