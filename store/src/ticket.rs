//! A ticket: all that another home needs to fetch a version, as one word to copy and paste.
//!
//! `lode1` and base32 of: format byte, DAG-CBOR, checksum. A checksum and not a signature: a ticket is
//! trusted as far as the channel that it came by, and everything that it names is verified by hash or
//! signature later. Text comes from users.

mod text;

use std::net::SocketAddr;

use crate::document::{DocumentError, MapWriter, Reader, encode_array, encode_text, require};
use crate::limits::{
    ADDRESS_BYTES_MAX, ALIAS_BYTES_MAX, MODEL_BYTES_MAX, REF_NAME_BYTES_MAX, TICKET_ADDRESSES_MAX,
    TICKET_BYTES_MAX, TICKET_PEERS_MAX,
};
use crate::name::{NameError, check_alias, check_model};
use crate::refs::{RefError, check_ref};
use crate::signature::Signed;
use crate::{ErrorKind, PublisherId, RecordId, VersionId};

/// What every ticket starts with.
pub const TICKET_PREFIX: &str = "lode1";

/// Where a peer may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddr {
    /// The peer's node key.
    pub id: [u8; 32],
    /// Its IP addresses and ports.
    pub ip: Vec<SocketAddr>,
    /// The URLs of its relays.
    pub relay: Vec<String>,
}

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Who has it: at least one.
    pub addrs: Vec<PeerAddr>,
    /// Whose model.
    pub publisher: PublisherId,
    /// The head of the publisher's identity log, as the maker knew it.
    pub identity: RecordId,
    /// Which model.
    pub model: String,
    /// Which version of it.
    pub version: Option<VersionId>,
    /// Which ref of it: `heads/NAME` or `tags/NAME`.
    pub name: Option<String>,
    /// The right to read it, if it is private.
    pub capability: Option<Signed>,
    /// What the maker calls the publisher.
    pub alias: Option<String>,
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not start like one.
    #[error(
        "{found:?} is not a ticket: tickets start with {TICKET_PREFIX}, `lode share` prints one"
    )]
    NotATicket {
        /// Its start.
        found: String,
    },
    /// It has a character that no ticket has.
    #[error(
        "the ticket has the character {found:?} at {at}: copy it again, all of it and nothing else"
    )]
    Character {
        /// The character.
        found: char,
        /// Which one, from 0.
        at: usize,
    },
    /// Its end is missing.
    #[error("the ticket is cut short after {found} characters: copy it again to its end")]
    CutShort {
        /// How many characters there are.
        found: usize,
    },
    /// Its checksum is wrong.
    #[error("the ticket is damaged, its checksum is wrong: copy it again")]
    Damaged,
    /// It is too long.
    #[error("the ticket has {found} characters, at most {max} are permitted")]
    TooLong {
        /// How many characters there are.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// It is of a newer format.
    #[error("the ticket has format {found}, this Lode reads format 1: update Lode")]
    NewerFormat {
        /// The format that it says.
        found: u8,
    },
    /// Its content is malformed.
    #[error("the ticket cannot be read: {0}")]
    Document(#[from] DocumentError),
    /// A name in it is not one.
    #[error("the ticket is refused: {0}")]
    Name(#[from] NameError),
    /// The ref in it is not one.
    #[error("the ticket is refused: {0}")]
    Ref(#[from] RefError),
}

impl TicketError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NewerFormat { .. } => ErrorKind::Refused,
            Self::Document(err) if err.kind() == ErrorKind::Refused => ErrorKind::Refused,
            _ => ErrorKind::Usage,
        }
    }
}

impl Ticket {
    /// The document's bytes.
    fn encode(&self) -> Vec<u8> {
        let peer = |out: &mut Vec<u8>, peer: &PeerAddr| {
            let texts = |out: &mut Vec<u8>, list: &[String]| {
                encode_array(out, list.iter(), |out, text| encode_text(out, text));
            };
            let ip: Vec<_> = peer.ip.iter().map(SocketAddr::to_string).collect();
            MapWriter::new()
                .bytes("id", &peer.id)
                .with("ip", |out| texts(out, &ip))
                .with("relay", |out| texts(out, &peer.relay))
                .finish_into(out);
        };
        MapWriter::new()
            .with("addrs", |out| encode_array(out, self.addrs.iter(), peer))
            .bytes("publisher", self.publisher.as_bytes())
            .bytes("identity", self.identity.as_bytes())
            .text("model", &self.model)
            .bytes_or_null(
                "version",
                self.version.as_ref().map(|id| id.as_bytes().as_slice()),
            )
            .text_or_null("ref", self.name.as_deref())
            .bytes_or_null(
                "cap",
                self.capability.as_ref().map(Signed::encode).as_deref(),
            )
            .text_or_null("alias", self.alias.as_deref())
            .finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (mut addrs, mut publisher, mut identity, mut model) = (None, None, None, None);
        let (mut version, mut name, mut capability, mut alias) = (None, None, None, None);
        let mut reader = Reader::new(bytes, "ticket", TICKET_BYTES_MAX)?;
        reader.map::<DocumentError>(|key, r| {
            match key {
                "addrs" => {
                    let mut list = Vec::new();
                    r.array::<DocumentError>(TICKET_PEERS_MAX, |r| {
                        list.push(decode_peer(r)?);
                        Ok(())
                    })?;
                    addrs = Some(list);
                }
                "publisher" => publisher = Some(r.array_of()?),
                "identity" => identity = Some(r.array_of()?),
                "model" => model = Some(r.text(MODEL_BYTES_MAX)?),
                "version" => version = Some(r.optional(Reader::array_of)?),
                "ref" => name = Some(r.optional(|r| r.text(REF_NAME_BYTES_MAX + "heads/".len()))?),
                "cap" => {
                    capability = Some(r.optional(|r| Signed::decode(r.bytes(TICKET_BYTES_MAX)?))?);
                }
                "alias" => alias = Some(r.optional(|r| r.text(ALIAS_BYTES_MAX))?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        reader.end()?;
        let ticket = Self {
            addrs: require(addrs, "addrs")?,
            publisher: PublisherId::from_bytes(require(publisher, "publisher")?),
            identity: RecordId::from_bytes(require(identity, "identity")?),
            model: require(model, "model")?.to_owned(),
            version: require(version, "version")?.map(VersionId::from_bytes),
            name: require(name, "ref")?.map(str::to_owned),
            capability: require(capability, "cap")?,
            alias: require(alias, "alias")?.map(str::to_owned),
        };
        if ticket.addrs.is_empty() {
            return Err(DocumentError::invalid("addrs", "there is none").into());
        }
        check_model(&ticket.model)?;
        ticket.name.as_deref().map_or(Ok(()), check_ref)?;
        ticket.alias.as_deref().map_or(Ok(()), check_alias)?;
        Ok(ticket)
    }
}

fn decode_peer(reader: &mut Reader<'_>) -> Result<PeerAddr, DocumentError> {
    let (mut id, mut ip, mut relay) = (None, None, None);
    reader.map::<DocumentError>(|key, r| {
        match key {
            "id" => id = Some(r.array_of()?),
            "ip" => {
                let mut list = Vec::new();
                r.array::<DocumentError>(TICKET_ADDRESSES_MAX, |r| {
                    let text = r.text(ADDRESS_BYTES_MAX)?;
                    let parsed = text.parse::<SocketAddr>().ok();
                    let one_spelling = parsed.filter(|addr| addr.to_string() == text);
                    list.push(one_spelling.ok_or_else(|| {
                        DocumentError::invalid(
                            "ip",
                            format!("{text:?} is not an address with port"),
                        )
                    })?);
                    Ok(())
                })?;
                ip = Some(list);
            }
            "relay" => {
                let mut list = Vec::new();
                r.array::<DocumentError>(TICKET_ADDRESSES_MAX, |r| {
                    let text = r.text(ADDRESS_BYTES_MAX)?;
                    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
                        return Err(DocumentError::invalid(
                            "relay",
                            format!("{text:?} is not a URL"),
                        ));
                    }
                    list.push(text.to_owned());
                    Ok(())
                })?;
                relay = Some(list);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(PeerAddr {
        id: require(id, "id")?,
        ip: require(ip, "ip")?,
        relay: require(relay, "relay")?,
    })
}

#[cfg(test)]
mod tests;
