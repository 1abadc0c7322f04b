//! Publishers as this home knows them: its own, and the aliases that it gave to others.
//!
//! The home's own publisher is made on first use: its device key is the identity's only key, and the
//! next key is committed to. Local keys: `own/publisher` (its id), `alias/<alias>` (a publisher's id).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use lode_store::{
    PublisherId, VersionId,
    identity::{self, IdentityLog, Operation},
    name::{PublisherName, check_alias},
    signature::SigningKey,
};

use crate::{
    Node,
    command::{AliasRow, Failure, Outcome},
    keys::{self, KeyKind},
};

/// Local key of the own publisher's id.
const OWN_KEY: &str = "own/publisher";

/// A publisher for whom this home may sign.
pub(crate) struct Signer {
    /// The publisher.
    pub(crate) publisher: PublisherId,
    /// Its identity log.
    pub(crate) log: Arc<IdentityLog>,
    /// This home's key.
    pub(crate) device: SigningKey,
}

/// Seconds since 1970. Shown to people; orders nothing.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// The home's own publisher, if it was made.
pub(crate) fn own(node: &Node) -> Result<Option<PublisherId>, Failure> {
    let Some(bytes) = node.store().local_get(OWN_KEY)? else {
        return Ok(None);
    };
    let id = PublisherId::try_from(bytes.as_ref())
        .map_err(|error| Failure::failed(format!("the own publisher's id is damaged: {error}")))?;
    Ok(Some(id))
}

/// The home's own publisher, made now if there is none.
pub(crate) fn own_or_create(node: &Node) -> Result<PublisherId, Failure> {
    if let Some(id) = own(node)? {
        return Ok(id);
    }
    let device = SigningKey::from_bytes(&keys::load_or_create(node.home(), KeyKind::Device)?);
    let next = SigningKey::from_bytes(&keys::load_or_create(node.home(), KeyKind::Next)?);
    let first = identity::create(&device, &next.public());
    let log = IdentityLog::start(first.clone())?;
    node.store().apply_identity(first)?;
    node.store()
        .local_set(OWN_KEY, log.publisher().as_bytes())?;
    Ok(log.publisher())
}

/// The publisher that `name` means here.
pub(crate) fn resolve(node: &Node, name: &PublisherName) -> Result<PublisherId, Failure> {
    match name {
        PublisherName::Key(key) => Ok(*key),
        PublisherName::Alias(alias) => bound(node, alias)?.ok_or_else(|| {
            Failure::not_found(format!("no publisher is known as {alias:?} here")).advise(format!(
                "pull with `--from TICKET`, bind it with `lode alias {alias} KEY`, or name the model KEY/MODEL"
            ))
        }),
    }
}

/// What an alias is bound to.
pub(crate) fn bound(node: &Node, alias: &str) -> Result<Option<PublisherId>, Failure> {
    let Some(bytes) = node.store().local_get(&format!("alias/{alias}"))? else {
        return Ok(None);
    };
    let id = PublisherId::try_from(bytes.as_ref())
        .map_err(|error| Failure::failed(format!("the alias {alias:?} is damaged: {error}")))?;
    Ok(Some(id))
}

/// Binds an alias; one that is bound to another publisher stays as it is.
pub(crate) fn bind(node: &Node, alias: &str, publisher: PublisherId) -> Result<(), Failure> {
    check_alias(alias)?;
    match bound(node, alias)? {
        Some(known) if known == publisher => Ok(()),
        Some(known) => Err(Failure::refused(format!(
            "{alias:?} is bound to the publisher {known} here, not to {publisher}"
        ))
        .advise(format!(
            "if you trust the other one, name it by its key: {publisher}/MODEL"
        ))),
        None => Ok(node
            .store()
            .local_set(&format!("alias/{alias}"), publisher.as_bytes())?),
    }
}

/// All aliases, by name.
pub(crate) fn aliases(node: &Node) -> Result<Vec<(String, PublisherId)>, Failure> {
    let rows = node.store().local_prefix("alias/")?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, bytes)| {
            let alias = key.strip_prefix("alias/")?.to_owned();
            Some((alias, PublisherId::try_from(bytes.as_ref()).ok()?))
        })
        .collect())
}

/// `alias/model` as this home says it, else `KEY/model`.
pub(crate) fn shown_name(
    node: &Node,
    publisher: &PublisherId,
    model: &str,
) -> Result<String, Failure> {
    let alias = aliases(node)?
        .into_iter()
        .find(|(_, bound)| bound == publisher);
    Ok(match alias {
        Some((alias, _)) => format!("{alias}/{model}"),
        None => format!("{publisher}/{model}"),
    })
}

/// The signer for the publisher that `name` means. An unbound alias becomes the home's own publisher.
pub(crate) fn signer(
    node: &Node,
    name: &PublisherName,
    operation: Operation,
    model: &str,
) -> Result<Signer, Failure> {
    let publisher = match name {
        PublisherName::Key(key) => *key,
        PublisherName::Alias(alias) => match bound(node, alias)? {
            Some(publisher) => publisher,
            None => {
                let publisher = own_or_create(node)?;
                bind(node, alias, publisher)?;
                publisher
            }
        },
    };
    let refused = || {
        Failure::refused(format!("this home has no key that may sign for the publisher {publisher}"))
            .advise("push under a name of your own, or ask the publisher to delegate to this home's device key")
    };
    let log = node.store().identity(&publisher)?.ok_or_else(refused)?;
    let device = keys::load(node.home(), KeyKind::Device)?.ok_or_else(refused)?;
    let device = SigningKey::from_bytes(&device);
    if !log.authorises(device.id(), operation, model, Some(now())) {
        return Err(refused());
    }
    Ok(Signer {
        publisher,
        log,
        device,
    })
}

impl Signer {
    /// Signs and stores the record that sets a ref (full name) or deletes it.
    pub(crate) fn move_ref(
        &self,
        node: &Node,
        model: &str,
        name: &str,
        version: Option<VersionId>,
    ) -> Result<(), Failure> {
        let highest = node
            .store()
            .highest_sequence(&self.publisher, self.device.id())?;
        let set = node.store().ref_set(&self.publisher, model)?;
        let signed = set.make(&self.log, &[&self.device], name, version, highest, now())?;
        node.store().apply_ref(signed)?;
        Ok(())
    }
}

/// `lode alias`.
pub(crate) fn alias(
    node: &Node,
    alias: Option<&str>,
    key: Option<&str>,
) -> Result<Outcome, Failure> {
    let own = own(node)?;
    if let (Some(alias), Some(key)) = (alias, key) {
        let publisher = key
            .parse()
            .map_err(|error| Failure::usage(format!("publisher key: {error}")))?;
        bind(node, alias, publisher)?;
    }
    let rows = aliases(node)?
        .into_iter()
        .filter(|(name, _)| alias.is_none_or(|wanted| wanted == name))
        .map(|(alias, publisher)| AliasRow {
            alias,
            own: Some(publisher) == own,
            publisher: publisher.to_hex(),
        })
        .collect::<Vec<_>>();
    match alias {
        Some(alias) if rows.is_empty() => Err(Failure::not_found(format!(
            "no publisher is known as {alias:?} here"
        ))),
        _ => Ok(Outcome::Aliases { aliases: rows }),
    }
}

/// `lode key`.
pub(crate) fn key(node: &Node, create: bool) -> Result<Outcome, Failure> {
    let publisher = if create {
        Some(own_or_create(node)?)
    } else {
        own(node)?
    };
    let device = keys::load(node.home(), KeyKind::Device)?;
    let device_key = device.map(|secret| {
        data_encoding::HEXLOWER.encode(SigningKey::from_bytes(&secret).id().as_bytes())
    });
    let node_key = iroh::SecretKey::from_bytes(&keys::load_or_create(node.home(), KeyKind::Node)?);
    Ok(Outcome::Key {
        publisher: publisher.map(PublisherId::to_hex),
        device_key,
        node: node_key.public().to_string(),
    })
}
