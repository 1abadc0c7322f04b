//! Every bound of this crate, with its unit: no length from outside takes memory before it passed one.

/// Bytes of the longest chunk: 16 MiB.
pub const CHUNK_BYTES_MAX: u64 = 16 << 20;

/// Bytes of checked outboards of files of users that are kept in memory: those of 4 GiB of content.
pub const OUTBOARDS_KEPT_BYTES_MAX: usize = 16 << 20;

/// Bytes of documents read last that are kept in memory; longer than half of it, none is.
pub const DOCUMENTS_KEPT_BYTES_MAX: usize = 4 << 20;

/// Bytes that the places of chunks read last take in memory, about.
pub const PLACES_KEPT_BYTES_MAX: usize = 4 << 20;

/// Bytes of the longest document that is stored and sent like a chunk (a tree, a HashSeq): 64 MiB.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Maps and arrays inside one another in a document.
pub const DOCUMENT_DEPTH_MAX: usize = 16;

/// Bytes of one key of a map in a document.
pub const DOCUMENT_KEY_BYTES_MAX: usize = 256;

/// Bytes of a version document: 1 MiB.
pub const VERSION_BYTES_MAX: usize = 1 << 20;

/// Parents of a version.
pub const VERSION_PARENTS_MAX: usize = 64;

/// Versions that a version names as its base, or bundles.
pub const VERSION_LINKS_MAX: usize = 1024;

/// Annotations of a version.
pub const VERSION_ANNOTATIONS_MAX: usize = 1024;

/// Bytes of a version's message, or of one annotation: 64 KiB.
pub const VERSION_TEXT_BYTES_MAX: usize = 64 << 10;

/// Bytes of a version's author or licence.
pub const VERSION_NAME_BYTES_MAX: usize = 1024;

/// Bytes of a tree document: 64 MiB.
pub const TREE_BYTES_MAX: usize = DOCUMENT_BYTES_MAX;

/// Files of a tree.
pub const TREE_FILES_MAX: usize = 200_000;

/// Bytes of a path.
pub const PATH_BYTES_MAX: usize = 1024;

/// Bytes of one part of a path.
pub const PATH_PART_BYTES_MAX: usize = 255;

/// Bytes of a symbolic link's target.
pub const LINK_BYTES_MAX: u64 = 1024;

/// Chunks of one file: as many hashes as a document of 64 MiB holds.
pub const FILE_CHUNKS_MAX: u64 = (DOCUMENT_BYTES_MAX / 32) as u64;

/// Bytes of the longest file that has a git SHA-1: 10 MiB.
pub const GIT_HASH_FILE_BYTES_MAX: u64 = 10 << 20;

/// Bytes of the name of a cut rule.
pub const CUT_RULE_BYTES_MAX: usize = 32;

/// Bytes of the name of a signature algorithm.
pub const ALGORITHM_BYTES_MAX: usize = 32;

/// Bytes of a public key of any algorithm.
pub const PUBLIC_KEY_BYTES_MAX: usize = 4 << 10;

/// Bytes of a signature of any algorithm.
pub const SIGNATURE_BYTES_MAX: usize = 64 << 10;

/// Signatures on one body.
pub const SIGNATURES_MAX: usize = 64;

/// Bytes of the body of an identity record, a ref record or a capability: 64 KiB.
pub const RECORD_BODY_BYTES_MAX: usize = 64 << 10;

/// Bytes of a signed record, signatures included: 1 MiB.
pub const SIGNED_BYTES_MAX: usize = 1 << 20;

/// Keys that an identity has at a time.
pub const IDENTITY_KEYS_MAX: usize = 16;

/// Operations of a delegation.
pub const DELEGATION_OPERATIONS_MAX: usize = 16;

/// Bytes of the name of an operation.
pub const OPERATION_BYTES_MAX: usize = 32;

/// Globs of a delegation.
pub const DELEGATION_GLOBS_MAX: usize = 64;

/// Records of an identity log that its keys signed, rivals included.
pub const IDENTITY_RECORDS_MAX: usize = 4096;

/// Records of an identity log that its delegates signed, rivals included.
pub const IDENTITY_DELEGATE_RECORDS_MAX: usize = 2048;

/// Records that one ref record supersedes.
pub const SUPERSEDES_MAX: usize = 64;

/// Ref records of one model, proofs included, above which only the identity's own keys add more: as
/// many again.
pub const REF_RECORDS_MAX: usize = 65_536;

/// Ref records of one model by one signer.
pub const REF_RECORDS_OF_SIGNER_MAX: usize = 16_384;

/// Records that are kept of one signer and sequence: two are proof.
pub const EQUIVOCATIONS_MAX: usize = 8;

/// Bytes of a decoded ticket: 4 KiB.
pub const TICKET_BYTES_MAX: usize = 4 << 10;

/// Peers that a ticket names.
pub const TICKET_PEERS_MAX: usize = 16;

/// Addresses, or relays, of one peer of a ticket.
pub const TICKET_ADDRESSES_MAX: usize = 16;

/// Bytes of one address or relay URL.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Bytes of a local alias of a publisher.
pub const ALIAS_BYTES_MAX: usize = 39;

/// Bytes of a model's name.
pub const MODEL_BYTES_MAX: usize = 96;

/// Bytes of the name of a version of another hub's model: host, organisation and repository.
pub const ORIGIN_MODEL_BYTES_MAX: usize = 256;

/// Bytes of the name of a branch or tag.
pub const REF_NAME_BYTES_MAX: usize = 128;

/// Bytes of the name of a variant.
pub const VARIANT_BYTES_MAX: usize = 64;

/// Hex digits of the shortest prefix that names a version.
pub const VERSION_PREFIX_DIGITS_MIN: usize = 8;

/// Bytes of a chunk group, what is verified at a time: 16 KiB.
pub const GROUP_BYTES: u32 = 16 << 10;

/// Bytes of a log segment, 64 MiB; only a segment of one batch is larger.
pub const LOG_SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// Bytes of the body of one record of the log.
pub const LOG_RECORD_BYTES_MAX: usize = DOCUMENT_BYTES_MAX;

/// Records in one batch of the log.
pub const LOG_BATCH_RECORDS_MAX: usize = 65_536;

/// Bytes of the key of a local key-value.
pub const LOCAL_KEY_BYTES_MAX: usize = 1024;

/// Bytes of the value of a local key-value: 256 KiB.
pub const LOCAL_VALUE_BYTES_MAX: usize = 256 << 10;

/// Chunks in one container.
pub const CONTAINER_CHUNKS_MAX: u32 = 1 << 24;

/// Bytes of the path of an outside place.
pub const OUTSIDE_PATH_BYTES_MAX: usize = 4096;

/// Bytes at which a pack is full: 1 GiB.
pub const PACK_BYTES: u64 = 1 << 30;

/// Chunks at which a pack is full.
pub const PACK_CHUNKS: usize = 1 << 18;

/// Plain bytes of one frame of a compressed chunk: 256 KiB.
pub const FRAME_BYTES: u32 = 256 << 10;

/// Containers that are open (and mapped) at once.
pub const CONTAINERS_OPEN_MAX: usize = 256;

/// Places of one chunk that are looked at for a read.
pub const PLACES_MAX: usize = 32;

/// Bytes of the hash trees of whole files that a home keeps: 8 GiB, those of files of 2 TiB together. A
/// file whose own takes more is not served as one blob.
pub const ROOT_CACHE_BYTES_MAX: u64 = 8 << 30;

/// Whole files that stay open, each with its chunk list and its mapped hash tree.
pub const ROOT_FILES_OPEN_MAX: usize = 16;

/// Roots that are remembered as untrue.
pub const ROOT_FALSE_MAX: usize = 4096;

/// Requests that wait while a hash tree is made; more are turned away.
pub const ROOT_WAITING_MAX: usize = 16;

/// Threads that make a hash tree, each with 16 MiB.
pub const ROOT_THREADS_MAX: usize = 4;

/// Bytes of a piece, the unit of a download's journal: 1 MiB.
pub const PIECE_BYTES: u32 = 1 << 20;

/// Bytes of unfinished chunks that downloads into packs keep in memory: 128 MiB.
pub const DOWNLOAD_BUFFER_BYTES_MAX: u64 = 128 << 20;
