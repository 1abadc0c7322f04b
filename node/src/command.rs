//! What a node can be asked to do, and what it answers: the one vocabulary of control.
//!
//! Every command of the `lode` binary is one [`Command`], sent as JSON over the control socket and
//! answered by JSON lines: any number of [`Event`]s, then one [`Reply`]. Field names are the glossary's.

#![allow(
    missing_docs,
    reason = "fields of variants repeat the variant's own line"
)]

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{origin::Upstream, tokens::Power};

mod collection;
mod rows;

pub use collection::{
    CollectionCommand, CollectionCommit, CollectionCreate, CollectionImport, CollectionPoints,
    CollectionRestore, CollectionRow, CollectionSearch, CollectionSelect, CollectionShown,
    PointRow, PointsImported, SparseRow, VectorRow,
};

pub use rows::{
    AliasRow, Checked, Diff, DiffRow, FileRow, Finding, JobRow, LineageRow, LogRow, ModelRow,
    PeerRow, Pulled, Pushed, RefRow, Shown, SignatureRow, Status, TensorRow, TokenRow, VariantRow,
};

/// One request to the node that holds the home. Paths are absolute.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Makes a version of `dir` under `name` (`alias/model` or `KEY/model`).
    Push(Push),
    /// Fetches a version, or parts of it, and writes it to a folder or keeps it in the store.
    Pull(Pull),
    /// Lists the models of the home; with a name, the files of its version.
    Ls { name: Option<String> },
    /// Sums up one version.
    Show { name: String },
    /// Lists the tensors of one version.
    Tensors { name: String },
    /// Finds the file on disk that holds `name` = `alias/model[@rev]/FILE` byte for byte.
    Path { name: String },
    /// Lists the versions of a branch, newest first, and the moves of refs.
    Log { name: String },
    /// Compares two versions; with `stats`, the values of float tensors too.
    Diff {
        from: String,
        to: String,
        stats: bool,
    },
    /// Lists what a version was made from, and what was made from it.
    Lineage { name: String },
    /// Sets a tag; an existing one moves only with `force`.
    Tag {
        name: String,
        tag: String,
        force: bool,
    },
    /// Lists the branches and tags of a model.
    Branches { name: String },
    /// Sets a branch to a version, making it if need be: rollback and fast-forward alike.
    BranchSet { name: String, branch: String },
    /// Deletes a branch.
    BranchRemove { name: String, branch: String },
    /// Removes a model (`alias/model`), or one ref or version of it (`alias/model@rev`), from the home.
    Remove { name: String, force: bool },
    /// Keeps a version from being collected.
    Pin { name: String },
    /// Lets a version be collected again.
    Unpin { name: String },
    /// Frees the bytes that no kept version needs.
    Gc { dry_run: bool },
    /// Checks all that one version needs: signatures, documents and every byte that is held.
    Verify { name: String },
    /// Checks every byte of the home.
    Scrub,
    /// Makes a ticket. `expires_seconds` bounds the capability of a private model's ticket.
    Share {
        name: String,
        expires_seconds: Option<u64>,
    },
    /// Lists known peers.
    Peers,
    /// Adds the peers of a ticket to the address book.
    PeersAdd { ticket: String },
    /// Binds a local name to a publisher; without a key, lists the bindings.
    Alias {
        alias: Option<String>,
        key: Option<String>,
    },
    /// Shows the home's publisher and device key. Makes them when `create` and there is none.
    Key { create: bool },
    /// Holds back the pulls of `name` (`alias/model[@rev]`), or all that run: they ask for nothing more.
    Pause { name: Option<String> },
    /// Lets pulls go on that were held back.
    Resume { name: Option<String> },
    /// Lists the variants of a version with their sizes.
    VariantLs { name: String },
    /// Makes a variant and keeps it as chunks under a signed claim.
    VariantMake { name: String, from: Vec<String> },
    /// Compares groups of a kept variant, chosen at random, with what the recipe makes.
    VariantCheck(VariantCheck),
    /// Asks something of a collection of vectors.
    Collection(Box<CollectionCommand>),
    /// Makes a token for programs that ask over HTTP.
    TokenCreate(TokenCreate),
    /// Lists tokens.
    TokenLs,
    /// Removes the token of this name or id; without one, all, and with them that tokens rule.
    TokenRemove { name: Option<String> },
    /// Says what the node is doing: peers, rates, downloads, disk.
    Status,
    /// Checks the home; with `rebuild`, makes the index anew from the logs and sidecars.
    Doctor { rebuild: bool },
}

/// `lode push`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Push {
    /// Absolute path of the folder (or of one file).
    pub dir: String,
    /// `alias/model`.
    pub name: String,
    /// Commit message.
    #[serde(default)]
    pub message: String,
    /// Branch that moves to the new version; `main` when absent.
    pub branch: Option<String>,
    /// Tag to set on the new version.
    pub tag: Option<String>,
    /// Makes the model readable by anyone.
    #[serde(default)]
    pub public: bool,
    /// Keeps the files where they are instead of copying them.
    #[serde(default)]
    pub in_place: bool,
    /// The version that this one derives from.
    pub base: Option<String>,
    /// Licence identifier.
    pub license: Option<String>,
    /// Refuses files that claim a tensor format and break it.
    #[serde(default)]
    pub strict: bool,
    /// Also notes whole-file BLAKE3 roots, so that stock iroh-blobs clients fetch files as one blob.
    #[serde(default)]
    pub file_roots: bool,
}

/// `lode pull`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Pull {
    /// `alias/model[@rev][:variant]`.
    pub name: String,
    /// Absolute path of the folder to write to; the store alone when absent.
    pub to: Option<String>,
    /// Globs of file paths; all files when empty.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs of tensor names; whole files when empty.
    #[serde(default)]
    pub tensors: Vec<String>,
    /// What of the tensors: `tp=R/N`, `layers=A..B`, `experts=A..B`; all of them when empty.
    #[serde(default)]
    pub slice: Vec<String>,
    /// Rows `A..B` of the tensors that `tensors` names; all when absent.
    #[serde(default)]
    pub rows: Option<String>,
    /// Tickets that name providers.
    #[serde(default)]
    pub from: Vec<String>,
    /// Bytes a second, over all peers.
    pub max_rate: Option<u64>,
    /// Replaces existing files that differ.
    #[serde(default)]
    pub force: bool,
    /// Says what would be fetched and stops.
    #[serde(default)]
    pub dry_run: bool,
    /// Takes no bytes over plain TCP.
    #[serde(default)]
    pub no_lan: bool,
    /// The hub of a name `hf:ORG/MODEL`; the node's own, or else the Hugging Face Hub, when absent.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub upstream: Option<Box<Upstream>>,
}

/// `lode variant check`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VariantCheck {
    /// `alias/model[@rev]:variant`.
    pub name: String,
    /// Tickets of peers whose claims are checked.
    #[serde(default)]
    pub from: Vec<String>,
    /// Groups of 16 KiB to compare.
    pub groups: u32,
}

/// `lode token create`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenCreate {
    /// What it is called; its id when absent.
    pub name: Option<String>,
    /// What it is for.
    pub scope: Power,
    /// Globs of models; all models when empty.
    #[serde(default)]
    pub models: Vec<String>,
    /// How long it holds; for ever when absent.
    pub expires_seconds: Option<u64>,
}

/// Something that happened on the way to the [`Reply`]. For people and progress bars.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A line for the user: what was decided or noticed.
    Note { text: String },
    /// A line for the user about something that is not as it should be; work goes on.
    Warning { text: String },
    /// How far the named phase has come. `total` 0 is unknown. Bytes.
    Progress {
        phase: String,
        done: u64,
        total: u64,
        peers: u32,
    },
}

/// The last line of an answer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The command was carried out.
    Done { outcome: Outcome },
    /// It was not.
    Failed { error: Failure },
}

/// Why a command was not carried out, for people and for exit codes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind, from which exit code and HTTP status follow.
    pub kind: FailureKind,
    /// What failed, and which.
    pub message: String,
    /// What to do about it.
    #[schema(required)]
    pub advice: Option<String>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Something else: I/O, a full disk, a bug. Exit 1, HTTP 500.
    Failed,
    /// The request makes no sense. Exit 2, HTTP 400.
    Usage,
    /// No such model, ref, version, file or tensor. Exit 3, HTTP 404.
    NotFound,
    /// Policy, permission or a conflict forbids it. Exit 4, HTTP 403.
    Refused,
    /// Stored or received bytes are not what they must be. Exit 5, HTTP 500.
    Corrupt,
    /// No reachable peer has it now. Exit 6, HTTP 503.
    NoPeer,
}

impl FailureKind {
    /// The exit code of the `lode` binary.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Corrupt => 5,
            Self::NoPeer => 6,
        }
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Failed | Self::Corrupt => 500,
            Self::Usage => 400,
            Self::NotFound => 404,
            Self::Refused => 403,
            Self::NoPeer => 503,
        }
    }
}

/// The result of a [`Command`]. Sizes are bytes, times seconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing to say beyond success.
    Ok,
    /// [`Command::Push`].
    Pushed(Pushed),
    /// [`Command::Pull`].
    Pulled(Pulled),
    /// [`Command::Ls`] without a name.
    Models { models: Vec<ModelRow> },
    /// [`Command::Ls`] with a name.
    Files {
        version: String,
        files: Vec<FileRow>,
    },
    /// [`Command::Show`].
    Shown(Box<Shown>),
    /// [`Command::Tensors`].
    Tensors {
        version: String,
        tensors: Vec<TensorRow>,
    },
    /// [`Command::VariantLs`].
    Variants {
        version: String,
        variants: Vec<VariantRow>,
    },
    /// [`Command::Path`].
    Path { path: String },
    /// [`Command::Log`].
    Log { versions: Vec<LogRow> },
    /// [`Command::Diff`].
    Diff(Box<Diff>),
    /// [`Command::Lineage`].
    Lineage { rows: Vec<LineageRow> },
    /// [`Command::Branches`].
    Branches { refs: Vec<RefRow> },
    /// Commands that move a ref: where it points now, and what it pointed to.
    Moved {
        reference: String,
        version: Option<String>,
        before: Option<String>,
    },
    /// [`Command::Gc`], and what a dry run would free.
    Collected {
        chunks: u64,
        bytes: u64,
        containers: u64,
        dry_run: bool,
    },
    /// [`Command::Verify`], [`Command::Scrub`] and [`Command::VariantCheck`].
    Checked(Checked),
    /// [`Command::Share`].
    Ticket { ticket: String, public: bool },
    /// [`Command::Peers`].
    Peers { peers: Vec<PeerRow> },
    /// [`Command::Alias`].
    Aliases { aliases: Vec<AliasRow> },
    /// [`Command::Key`].
    Key {
        publisher: Option<String>,
        device_key: Option<String>,
        node: String,
    },
    /// [`Command::Pause`] and [`Command::Resume`]: the pulls that it was about.
    Paused { names: Vec<String>, paused: bool },
    /// [`CollectionCommand::Ls`].
    Collections { collections: Vec<CollectionRow> },
    /// [`CollectionCommand::Create`], [`CollectionCommand::Show`] and [`CollectionCommand::Restore`].
    Collection(Box<CollectionShown>),
    /// [`CollectionCommand::Import`].
    PointsImported(PointsImported),
    /// [`CollectionCommand::Search`] and [`CollectionCommand::Points`]; `next` is the first id that is not among them.
    Points {
        points: Vec<PointRow>,
        next: Option<String>,
    },
    /// [`CollectionCommand::DeletePoints`], and changes of indexes: how many points it was about.
    PointsChanged { points: u64 },
    /// [`Command::TokenCreate`]: the text of the token, which is shown this once.
    TokenMade { token: String, row: TokenRow },
    /// [`Command::TokenLs`], and what [`Command::TokenRemove`] removed; and whether tokens rule over HTTP.
    Tokens { tokens: Vec<TokenRow>, rule: bool },
    /// [`Command::Status`].
    Status(Box<Status>),
    /// [`Command::Doctor`].
    Doctor { findings: Vec<Finding> },
}
