//! Tokens: what lets programs ask for models over HTTP that not everyone may read, or change them.
//!
//! A token is text that is shown once, when it is made; the home keeps a hash of it. All tokens are in
//! memory: one that is removed is unknown from then on, in a node that runs too, since whoever changes
//! them is the owner of the home. From the first token on, tokens rule over HTTP, also when the last one
//! is removed or has expired: a home does not fall open. Only [`Tokens::remove_all`] undoes that.
//!
//! | local key | value |
//! |---|---|
//! | `token/ID` | DAG-CBOR: see [`record`] |
//! | `tokens/rule` | empty: there has been a token |

mod clock;
pub(crate) mod command;
pub mod limits;
pub mod models;
pub mod record;
pub mod secret;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use lode_store::{
    ErrorKind, Store,
    access::{TokenScope, TokenScopes},
    log::Record,
    recent::Recent,
    store::{ReadError, WriteError},
};

use clock::Clock;
use limits::TOKENS_MAX;
use models::ModelsGlob;
pub use record::{Power, Token, TokenId};
use secret::Secret;

/// Local key that says that there has been a token.
const RULE_KEY: &str = "tokens/rule";

/// The tokens of a home.
#[derive(Debug)]
pub struct Tokens {
    store: Store,
    clock: Clock,
    table: RwLock<Arc<Table>>,
    /// What the names in tokens stand for, as of a state of the home.
    resolved: Recent<TokenId, Arc<TokenScopes>>,
    /// Held while tokens are made or removed.
    changing: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Table {
    rule: bool,
    tokens: BTreeMap<TokenId, Arc<Token>>,
}

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is called; its id when absent.
    pub name: Option<String>,
    /// What it is for.
    pub power: Power,
    /// Which models.
    pub models: Vec<ModelsGlob>,
    /// How long it holds, in seconds; for ever when absent.
    pub expires_seconds: Option<u64>,
}

/// Why a token was not made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The name breaks a rule.
    #[error("{0:?} is not a token's name: write 1 to {max} of A-Z, a-z, 0-9, `.`, `_` and -", max = limits::TOKEN_NAME_BYTES_MAX)]
    Name(String),
    /// The text is no glob of models.
    #[error(
        "{found:?} names no models: write PUBLISHER/MODEL, in which MODEL may have `*`, or `*` for all: {why}"
    )]
    Models {
        /// What was found.
        found: String,
        /// What is wrong with it.
        why: String,
    },
    /// One token for too many globs.
    #[error("a token has at most {max} globs of models", max = limits::TOKEN_MODELS_MAX)]
    TooManyModels,
    /// An administrator's token for some models only.
    #[error("a token of scope admin is for the whole node: leave --model out")]
    AdminModels,
    /// The name is taken.
    #[error("there is a token {0:?} already")]
    Taken(String),
    /// The home has as many tokens as it can have.
    #[error("there are {TOKENS_MAX} tokens already: remove some with `lode token rm`")]
    TooMany,
    /// No such token.
    #[error("there is no token {0:?}; `lode token ls` lists them")]
    Absent(String),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}")]
    Randomness(String),
    /// The home cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The home cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl TokenError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name(_) | Self::Models { .. } | Self::TooManyModels | Self::AdminModels => {
                ErrorKind::Usage
            }
            Self::Taken(_) | Self::TooMany => ErrorKind::Refused,
            Self::Absent(_) => ErrorKind::NotFound,
            Self::Randomness(_) => ErrorKind::Io,
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

/// Why a text lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unwelcome {
    /// It is no token of this home, or is one no more.
    #[error("this token is not known here")]
    Unknown,
    /// It was one.
    #[error("this token has expired")]
    Expired,
}

impl Tokens {
    /// Reads the tokens of a home.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn open(store: Store) -> Result<Self, ReadError> {
        let mut table = Table {
            rule: store.local_get(RULE_KEY)?.is_some(),
            tokens: BTreeMap::new(),
        };
        for (key, value) in store.local_prefix(record::PREFIX)? {
            // Whatever it was, somebody made a token: nothing falls open because it is not understood.
            table.rule = true;
            match Token::decode(&key, &value) {
                Some(token) => drop(table.tokens.insert(token.id, Arc::new(token))),
                None => tracing::warn!(key, "a token that cannot be read lets nobody in"),
            }
        }
        Ok(Self {
            store,
            clock: Clock::start(),
            table: RwLock::new(Arc::new(table)),
            resolved: Recent::new(2 * TOKENS_MAX),
            changing: Mutex::new(()),
        })
    }

    /// Whether tokens rule: there has been one.
    pub fn rule(&self) -> bool {
        self.table().rule
    }

    /// All tokens, by name.
    pub fn list(&self) -> Vec<Arc<Token>> {
        let mut tokens: Vec<_> = self.table().tokens.values().cloned().collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        tokens
    }

    /// Whether a token has expired.
    pub fn is_expired(&self, token: &Token) -> bool {
        token.expires.is_some_and(|end| self.clock.now() >= end)
    }

    /// The token whose text this is.
    ///
    /// # Errors
    /// [`Unwelcome`].
    pub fn find(&self, text: &[u8]) -> Result<Arc<Token>, Unwelcome> {
        let digest = secret::digest(text).ok_or(Unwelcome::Unknown)?;
        let table = self.table();
        let token = table.tokens.get(&TokenId::of(&digest));
        // The comparison of hashes takes the same time wherever they differ.
        let token = token
            .filter(|token| token.digest == digest)
            .ok_or(Unwelcome::Unknown)?;
        match self.is_expired(token) {
            true => Err(Unwelcome::Expired),
            false => Ok(Arc::clone(token)),
        }
    }

    /// The token with this id, for whom something was handed out that its text is not shown with.
    ///
    /// # Errors
    /// [`Unwelcome`].
    pub fn current(&self, id: TokenId) -> Result<Arc<Token>, Unwelcome> {
        let table = self.table();
        let token = table.tokens.get(&id).ok_or(Unwelcome::Unknown)?;
        match self.is_expired(token) {
            true => Err(Unwelcome::Expired),
            false => Ok(Arc::clone(token)),
        }
    }

    /// What a token may read and change, by the names that this home gives to publishers now. Names
    /// that are bound to nobody stand for nothing.
    ///
    /// # Errors
    /// The home cannot be read.
    pub fn scopes(&self, token: &Token) -> Result<Arc<TokenScopes>, ReadError> {
        let as_of = self.store.changes();
        if let Some(scopes) = self.resolved.get(&token.id, as_of) {
            return Ok(scopes);
        }
        let mut scopes = Vec::with_capacity(token.models.len());
        for glob in &token.models {
            if let Some(publisher) = glob.resolve(&self.store)? {
                scopes.push(TokenScope {
                    publisher,
                    models: glob.models.clone(),
                    write: token.power >= Power::Write,
                });
            }
        }
        let expires = token.expires;
        let scopes = Arc::new(TokenScopes { scopes, expires });
        self.resolved.put(token.id, Arc::clone(&scopes), 1, as_of);
        Ok(scopes)
    }

    /// Makes a token; durable when this returns. The secret is not kept: whoever asked gets it once.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn create(&self, new: NewToken) -> Result<(Secret, Arc<Token>), TokenError> {
        if new.power == Power::Admin && !new.models.iter().all(ModelsGlob::is_all) {
            return Err(TokenError::AdminModels);
        }
        if new.models.len() > limits::TOKEN_MODELS_MAX {
            return Err(TokenError::TooManyModels);
        }
        let secret = Secret::generate()?;
        let digest = secret.digest();
        let id = TokenId::of(&digest);
        let name = new.name.unwrap_or_else(|| id.to_string());
        record::check_name(&name)?;
        let created = self.clock.now();
        let token = Token {
            id,
            name,
            power: new.power,
            models: new.models,
            created,
            expires: new.expires_seconds.map(|s| created.saturating_add(s)),
            digest,
        };
        let _changing = lock(&self.changing);
        let mut table = Table::clone(&self.table());
        if table.tokens.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let clashes = |other: &Arc<Token>| other.name == token.name || other.id == id;
        if table.tokens.values().any(clashes) {
            return Err(TokenError::Taken(token.name));
        }
        self.store.append(&[
            Record::local_set(RULE_KEY, &[])?,
            Record::local_set(&id.key(), &token.encode())?,
        ])?;
        let token = Arc::new(token);
        table.rule = true;
        table.tokens.insert(id, Arc::clone(&token));
        self.replace(table);
        Ok((secret, token))
    }

    /// Removes the token of this name or id. It is unknown at once, and durably so when this returns.
    ///
    /// # Errors
    /// [`TokenError::Absent`], or the home cannot be written.
    pub fn remove(&self, name: &str) -> Result<Arc<Token>, TokenError> {
        let _changing = lock(&self.changing);
        let mut table = Table::clone(&self.table());
        let mut tokens = table.tokens.values();
        let named = tokens.find(|token| token.name == name || token.id.to_string() == name);
        let token = Arc::clone(named.ok_or_else(|| TokenError::Absent(name.to_owned()))?);
        self.store
            .append(&[Record::local_delete(&token.id.key())])?;
        table.tokens.remove(&token.id);
        self.replace(table);
        Ok(token)
    }

    /// Removes all tokens, and with them that tokens rule.
    ///
    /// # Errors
    /// The home cannot be read or written.
    pub fn remove_all(&self) -> Result<Vec<Arc<Token>>, TokenError> {
        let _changing = lock(&self.changing);
        let removed = self.list();
        let keys = self.store.local_prefix(record::PREFIX)?;
        let mut records: Vec<_> = keys
            .iter()
            .map(|(key, _)| Record::local_delete(key))
            .collect();
        records.push(Record::local_delete(RULE_KEY));
        self.store.append(&records)?;
        self.replace(Table::default());
        Ok(removed)
    }

    fn table(&self) -> Arc<Table> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&table)
    }

    fn replace(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
