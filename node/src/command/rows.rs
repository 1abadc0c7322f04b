//! What commands answer: the rows of [`Outcome`](super::Outcome).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::tokens::Power;

/// What a push made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pushed {
    /// `alias/model@ref` as to be typed again.
    pub name: String,
    /// Version id, 64 hex digits.
    pub version: String,
    /// False when the tree equals the head's: nothing was made.
    pub changed: bool,
    /// Files in the tree.
    pub files: u64,
    /// Tensors in the tree, and how many of them brought new chunks.
    pub tensors: u64,
    /// Tensors with at least one new chunk.
    pub tensors_new: u64,
    /// Size of all files.
    pub size: u64,
    /// Bytes that were not held before.
    pub size_new: u64,
}

/// What a pull wrote.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pulled {
    /// `alias/model@rev`.
    pub name: String,
    /// Version id.
    pub version: String,
    /// The folder, or the file when it is one; nothing when it stays in the store.
    pub path: Option<String>,
    /// Files that were asked for.
    pub files: u64,
    /// Bytes that were asked for.
    pub size: u64,
    /// Bytes of the whole version.
    #[serde(default)]
    pub size_full: u64,
    /// Bytes that came from peers.
    pub size_fetched: u64,
    /// Bytes that were held already.
    pub size_held: u64,
    /// Peers that sent bytes.
    pub providers: u32,
    /// Whether only a plan was made.
    pub dry_run: bool,
}

/// One model of the home.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelRow {
    /// `alias/model`, or `KEY/model` when no alias is bound.
    pub name: String,
    /// Publisher id.
    pub publisher: String,
    /// Version that `main` (or the only branch) names.
    pub version: Option<String>,
    /// Size of that version in full.
    pub size: u64,
    /// Bytes of it that are held.
    pub size_held: u64,
    /// Whether anyone may read it.
    pub public: bool,
    /// Whether this home signs for it.
    pub own: bool,
    /// Time of that version.
    pub time: Option<u64>,
}

/// One file of a version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FileRow {
    /// Path inside the version.
    pub path: String,
    /// Size.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// Cut rule of its chunk list.
    pub rule: String,
    /// Chunks.
    pub chunks: u64,
    /// Bytes that are held.
    pub size_held: u64,
    /// The BLAKE3 of the whole file, if it was pushed with `--file-roots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// One variant of a version.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct VariantRow {
    /// What stands behind the colon of a name.
    pub name: String,
    /// From which format to which.
    pub method: String,
    /// The rule set that it is made under.
    pub rules: String,
    /// Its id: of the tree and the recipe.
    pub variant: Option<String>,
    /// Size of all its files.
    pub size: u64,
    /// Size of those that are made on demand; the others are the version's own.
    pub size_made: u64,
    /// Files.
    pub files: u64,
    /// The version that this home keeps of it.
    pub kept: Option<String>,
    /// The version that the publisher says it is.
    pub claimed: Option<String>,
    /// Whether these two are not the same.
    #[serde(default)]
    pub disagree: bool,
    /// Why it cannot be made.
    pub refused: Option<String>,
}

/// One token of the home.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenRow {
    /// What it is called.
    pub name: String,
    /// Names it without giving it away.
    pub id: String,
    /// What it is for.
    pub scope: Power,
    /// Globs of models.
    pub models: Vec<String>,
    /// When it was made.
    pub created: u64,
    /// When it ends; never when absent.
    pub expires: Option<u64>,
    /// Whether that was before now.
    pub expired: bool,
}

/// One tensor of a version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TensorRow {
    /// Name in the file.
    pub name: String,
    /// File that holds it.
    pub file: String,
    /// Dtype as the format spells it.
    pub dtype: String,
    /// Shape, outermost first.
    pub shape: Vec<u64>,
    /// First byte in the file.
    pub offset: u64,
    /// Size.
    pub size: u64,
}

/// A version at a glance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    /// `alias/model`.
    pub name: String,
    /// Version id.
    pub version: String,
    /// Tree id.
    pub tree: String,
    /// Publisher id; none for origin versions.
    pub publisher: Option<String>,
    /// Kind: model, collection, dataset.
    pub kind: String,
    /// Parents.
    pub parents: Vec<String>,
    /// Author.
    pub author: Option<String>,
    /// Time.
    pub time: u64,
    /// Message.
    pub message: String,
    /// Branches and tags that name it.
    pub refs: Vec<String>,
    /// Whether anyone may read it.
    pub public: bool,
    /// Architecture (`config.json` or GGUF metadata).
    pub architecture: Option<String>,
    /// Number of parameters: elements of all tensors.
    pub parameters: u64,
    /// Elements by dtype, largest first.
    pub dtypes: Vec<(String, u64)>,
    /// Tensors.
    pub tensors: u64,
    /// The Collection (an iroh-blobs HashSeq) that the version is to other peers, if it was pushed with
    /// `--file-roots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// Files.
    pub files: Vec<FileRow>,
    /// Size in full.
    pub size: u64,
    /// Bytes held.
    pub size_held: u64,
    /// Bytes of chunks that no other version holds.
    pub size_own: u64,
    /// Licence.
    pub license: Option<String>,
    /// Bases.
    pub base: Vec<String>,
    /// Signatures: signer (hex) and whether it verifies.
    pub signatures: Vec<SignatureRow>,
    /// Whether it is pinned.
    pub pinned: bool,
}

/// One signature of a version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SignatureRow {
    /// Algorithm.
    pub algorithm: String,
    /// Signer's public key, hex.
    pub signer: String,
    /// `valid`, or why not.
    pub verdict: String,
}

/// One version in a log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogRow {
    /// Version id.
    pub version: String,
    /// Time.
    pub time: u64,
    /// Author.
    pub author: Option<String>,
    /// Message.
    pub message: String,
    /// Branches and tags that name it now.
    pub refs: Vec<String>,
    /// Tags that named it once and moved on, as `tag v1 moved to 1a2b3c4d`.
    pub moves: Vec<String>,
    /// Size in full.
    pub size: u64,
    /// Bytes held.
    pub size_held: u64,
}

/// Differences of two versions.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// Version compared from.
    pub from: String,
    /// Version compared to.
    pub to: String,
    /// Files that differ.
    pub files: Vec<DiffRow>,
    /// Tensors that differ.
    pub tensors: Vec<DiffRow>,
    /// Bytes of `to` whose chunks `from` does not have.
    pub size_new: u64,
}

/// One file or tensor that differs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DiffRow {
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// Path or tensor name.
    pub name: String,
    /// Size before, 0 when added.
    pub size_from: u64,
    /// Size after, 0 when removed.
    pub size_to: u64,
    /// Bytes that differ: of chunks for files, of the tensor for tensors.
    pub size_changed: u64,
    /// Dtype and shape before and after where they differ, for people.
    pub detail: Option<String>,
    /// Largest absolute difference of values (`--stats`, same shape, float dtypes).
    pub max_abs: Option<f64>,
    /// Mean absolute difference of values.
    pub mean_abs: Option<f64>,
}

/// One edge of a lineage.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LineageRow {
    /// Depth below the version asked for; negative for what was made from it.
    pub depth: i32,
    /// `parent`, `base`, `derived`, `self`.
    pub relation: String,
    /// Version id.
    pub version: String,
    /// Name, where known.
    pub name: Option<String>,
    /// Share of this version's bytes that the row's version holds too, 0 to 1, where both are known.
    pub shared: Option<f64>,
}

/// One branch or tag.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RefRow {
    /// `branch` or `tag`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Version id.
    pub version: Option<String>,
    /// Set when signers disagree: the versions they name.
    pub fork: Vec<String>,
}

/// Result of a check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// Chunks looked at.
    pub chunks: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Chunks that are not held (incomplete, not corrupt).
    pub missing: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `ok`, `warning` or `corrupt`.
    pub level: String,
    /// What and where.
    pub text: String,
    /// What to do.
    pub advice: Option<String>,
}

/// One peer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PeerRow {
    /// Node id, hex.
    pub node: String,
    /// Addresses.
    pub addresses: Vec<String>,
    /// Whether a connection is open.
    pub connected: bool,
    /// `lan`, `direct`, `relayed` or nothing.
    pub path: Option<String>,
    /// Bytes received from it since start.
    pub received: u64,
    /// Bytes sent to it since start.
    pub sent: u64,
    /// Bytes a second received from it, over the last seconds.
    #[serde(default)]
    pub rate_received: u64,
    /// Bytes a second sent to it.
    #[serde(default)]
    pub rate_sent: u64,
    /// Why a download does not ask it any more.
    #[serde(default)]
    pub dropped: Option<String>,
}

/// One alias.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AliasRow {
    /// Local name.
    pub alias: String,
    /// Publisher id.
    pub publisher: String,
    /// Whether it is the home's own publisher.
    pub own: bool,
}

/// What the node is doing.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Home folder.
    pub home: String,
    /// Program version.
    pub program: String,
    /// Node id, when the network is up.
    pub node: Option<String>,
    /// UDP addresses.
    pub listen: Vec<String>,
    /// HTTP address, when serving.
    pub http: Option<String>,
    /// Seconds since start.
    pub uptime_seconds: u64,
    /// Peers.
    pub peers: Vec<PeerRow>,
    /// Work under way.
    pub jobs: Vec<JobRow>,
    /// Bytes a second received and sent, over the last seconds.
    pub rate_received: u64,
    /// Bytes a second sent.
    pub rate_sent: u64,
    /// Models, versions and chunks held.
    pub models: u64,
    /// Versions kept.
    pub versions: u64,
    /// Chunks.
    pub chunks: u64,
    /// Allocated bytes of the home.
    pub disk_used: u64,
    /// Bytes in outside places.
    pub disk_outside: u64,
    /// Quota.
    pub disk_max: Option<u64>,
    /// Free bytes on its file system.
    pub disk_free: u64,
}

/// Work under way.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobRow {
    /// `push`, `pull`, ..
    pub kind: String,
    /// What it works on.
    pub name: String,
    /// Phase.
    pub phase: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 when unknown.
    pub total: u64,
    /// Bytes a second.
    pub rate: u64,
    /// Peers that send.
    pub peers: u32,
    /// Seconds until it is done at this rate, if that can be told.
    #[serde(default)]
    pub seconds_left: Option<u64>,
    /// Whether it is held back.
    #[serde(default)]
    pub paused: bool,
}
