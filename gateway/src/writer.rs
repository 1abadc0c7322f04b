//! The means of handlers that change models, and the one place where the gateway decides who may.
//!
//! A handler that changes a model asks [`Writer::model`] for it by name, and does its work with the
//! [`Writable`] that it gets: nothing else proves that the caller may.

use std::sync::Arc;

use lode_node::{read::ReadError, tokens::Token};
use lode_store::{
    PublisherId,
    access::{self, Caller, Grant},
    name::{Name, NameError},
};

use crate::{
    answer::Problem,
    gateway::Gateway,
    reader::{Read, Reader, absent_model, blocking, now},
    scope::Scope,
    visitor::Visitor,
};

/// Whoever may change some model; which ones, [`Writer::model`] says.
#[derive(Debug)]
pub struct Write;

/// The means of [`Write`].
#[derive(Debug, Clone)]
pub struct Writer {
    gateway: Arc<Gateway>,
    reader: Reader,
}

/// A name under which the caller may make and change a model. There need not be one yet.
#[derive(Debug, Clone)]
pub struct Writable {
    name: Name,
    publisher: Option<PublisherId>,
}

impl Scope for Write {
    type Means = Writer;
    const NAME: &'static str = "write";

    fn admit(gateway: &Arc<Gateway>, visitor: &Visitor) -> Result<Writer, Problem> {
        visitor.check_writes()?;
        Ok(Writer {
            gateway: Arc::clone(gateway),
            reader: Read::admit(gateway, visitor)?,
        })
    }
}

impl Writer {
    /// What the caller may read, which what it may change is part of.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What carries out changes, once [`Self::model`] has allowed them.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Permission to change the model of this name, or to make it.
    ///
    /// # Errors
    /// 400 for what is no name, 403 where the caller may read alone, and what an absent model answers
    /// where it may not even do that.
    pub async fn model(&self, publisher: &str, model: &str) -> Result<Writable, Problem> {
        let name: Name = format!("{publisher}/{model}")
            .parse()
            .map_err(|error: NameError| Problem::usage(error.to_string()))?;
        let (reads, asked) = (self.reader.reads().clone(), name.clone());
        let caller = self.reader.caller().clone();
        let found = blocking(move || {
            let publisher = match reads.publisher(&asked.publisher) {
                Ok(publisher) => publisher,
                Err(ReadError::Absent { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            // Case does not tell models apart: one that is there is meant.
            let model = match reads.model(publisher, &asked.model) {
                Ok(at) => at.model,
                Err(ReadError::Absent { .. }) => asked.model,
                Err(error) => return Err(error),
            };
            let granted = access::grant(&reads, &caller, None, &publisher, &model, now());
            Ok(Some((publisher, model, granted)))
        });
        let found = found.await?;
        let granted = match &found {
            Some((.., granted)) => *granted,
            None => self.unbound(&name),
        };
        match granted {
            Grant::Write => {}
            Grant::Read => {
                return Err(Problem::refused(format!(
                    "your token may read {name}, and not change it"
                )));
            }
            Grant::None => return Err(absent_model(self.reader.caller(), publisher, model)),
        }
        let (publisher, model) = match found {
            Some((publisher, model, _)) => (Some(publisher), model),
            None => (None, name.model),
        };
        let name = Name {
            publisher: name.publisher,
            model,
        };
        Ok(Writable { name, publisher })
    }

    /// What the caller may do under an alias that is bound to nobody: tokens say so by its text.
    fn unbound(&self, name: &Name) -> Grant {
        let token = self.reader.token();
        let covered = |token: &Token| token.writes_unbound(&name.publisher, &name.model);
        match self.reader.caller() {
            Caller::Owner => Grant::Write,
            Caller::Token(_) if token.is_some_and(covered) => Grant::Write,
            _ => Grant::None,
        }
    }
}

impl Writable {
    /// Its name: as it was given, or in the case of the model that is there.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whose model it is; nobody's yet under an alias that is not bound.
    pub fn publisher(&self) -> Option<PublisherId> {
        self.publisher
    }
}
