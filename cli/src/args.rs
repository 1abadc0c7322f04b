//! The arguments of the `lode` binary: one table from which parser, help, man pages and completions come.
//!
//! What a command means is in [`crate::action`]; nothing here touches the file system or the environment.

pub(crate) mod collection;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lode_node::tokens::Power;

use crate::units::{parse_duration, parse_rate, parse_size};

use collection::{CollectionSub, IndexArgs, SearchArgs};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "lode",
    version,
    about = "A peer-to-peer store for AI models and vector collections",
    long_about = "A peer-to-peer store for AI models: push a folder, pull it anywhere, whole or a few \
                  tensors of it, from every peer that has it, verified as it streams.",
    after_help = "NAME is alias/model or KEY/model; @REV names a branch, a tag or a version (8 or more \
                  digits of its id), `main` when absent.\n\
                  Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 corrupt, 6 no peer has it.",
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) sub: Sub,
}

/// What every command takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Home folder [default: LODE_HOME, else lode in the XDG data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print one JSON document, or JSON lines of events for long work
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results, warnings and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Use no relay and no lookup service: addresses that were given, and nothing else
    #[arg(long, global = true)]
    pub(crate) no_relay: bool,
    /// Find nodes of the local network, and be found by them (multicast DNS)
    #[arg(long, global = true)]
    pub(crate) mdns: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Sub {
    /// Make a version of a folder (or of one file)
    Push(PushArgs),
    /// Fetch a version, or parts of it
    Pull(PullArgs),
    /// List models; with a NAME, its files
    Ls {
        #[arg(value_name = "NAME[@REV][:VARIANT]")]
        name: Option<String>,
    },
    /// Sum up a version
    Show {
        #[arg(value_name = "NAME[@REV][:VARIANT]")]
        name: String,
    },
    /// List the tensors of a version
    Tensors {
        #[arg(value_name = "NAME[@REV][:VARIANT]")]
        name: String,
    },
    /// List, keep and check other precisions of a model
    Variant {
        #[command(subcommand)]
        variant: VariantSub,
    },
    /// Print where a file lies on disk, to map it without a copy
    Path {
        #[arg(value_name = "NAME[@REV]/FILE")]
        name: String,
    },
    /// List the versions of a branch, newest first
    Log {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
    },
    /// Compare two versions: files and tensors
    Diff {
        #[arg(value_name = "NAME[@REV]")]
        from: String,
        #[arg(value_name = "NAME[@REV]")]
        to: String,
        /// Compare the values of float tensors too
        #[arg(long)]
        stats: bool,
    },
    /// List what a version was made from, and what was made from it
    Lineage {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
    },
    /// Name a version for good
    Tag {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
        tag: String,
        /// Move a tag that exists
        #[arg(long)]
        force: bool,
    },
    /// List, set and remove branches
    Branch {
        #[command(subcommand)]
        branch: BranchSub,
    },
    /// Remove a model, or one branch, tag, version or kept variant of it, from this home
    Rm {
        #[arg(value_name = "NAME[@REV][:VARIANT]")]
        name: String,
        /// Remove what is your own or pinned, too
        #[arg(long)]
        force: bool,
    },
    /// Keep a version from being collected
    Pin {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
    },
    /// Let a version be collected again
    Unpin {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
    },
    /// Free the bytes that no kept version needs
    Gc {
        /// Say what would be freed, and stop
        #[arg(long)]
        dry_run: bool,
    },
    /// Check all that one version needs: signatures, documents and every byte held
    Verify {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
    },
    /// Check every byte of the home
    Scrub,
    /// Print a ticket, with which another home pulls a version
    Share {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
        /// End of the permission to read a private model, from now [example: 7d]
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        expires: Option<u64>,
    },
    /// List known peers
    Peers {
        #[command(subcommand)]
        peers: Option<PeersSub>,
    },
    /// Bind a local name to a publisher; without a KEY, list the bindings
    Alias {
        #[arg(value_name = "NAME")]
        alias: Option<String>,
        /// Publisher id, 64 hex digits
        #[arg(value_name = "KEY", requires = "alias")]
        key: Option<String>,
    },
    /// Show or make the identity of this home
    Key {
        #[command(subcommand)]
        key: KeySub,
    },
    /// Make, list, commit and delete collections of vectors
    Collection {
        #[command(subcommand)]
        collection: CollectionSub,
    },
    /// Read points out of a file into a collection
    Index(Box<IndexArgs>),
    /// Find the points of a collection that are nearest to a vector
    Search(Box<SearchArgs>),
    /// Make, list and remove tokens for programs that ask over HTTP
    Token {
        #[command(subcommand)]
        token: TokenSub,
    },
    /// Run a node: peers over iroh, HTTP for everyone else
    Serve(Box<ServeArgs>),
    /// Show Lode at work in temporary homes, in half a minute
    Demo(DemoArgs),
    /// Say what the node is doing: peers, rates, downloads, disk
    Status,
    /// Hold back the pulls of the running node: all, or those of NAME
    Pause {
        #[arg(value_name = "NAME[@REV]")]
        name: Option<String>,
    },
    /// Let paused pulls go on
    Resume {
        #[arg(value_name = "NAME[@REV]")]
        name: Option<String>,
    },
    /// Check the home
    Doctor {
        /// Make the index anew from the logs and containers
        #[arg(long)]
        rebuild: bool,
    },
    /// Show the settings in force and where each comes from
    Config {
        #[command(subcommand)]
        config: ConfigSub,
    },
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Write man pages to a folder
    #[command(hide = true)]
    Man { dir: PathBuf },
}

/// `lode push`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  \
    lode push ./smollm acme/smollm --tag v1 --public\n  \
    lode push ./smollm acme/smollm --in-place -m 'no second copy'\n  \
    lode push tiny.gguf acme/tiny-gguf --base acme/smollm@v1")]
pub(crate) struct PushArgs {
    /// Folder or file to push
    pub(crate) dir: PathBuf,
    /// Model to push to: alias/model
    pub(crate) name: String,
    /// Message of the version
    #[arg(
        long,
        short,
        value_name = "MSG",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) message: String,
    /// Branch that moves to the version [default: main]
    #[arg(long)]
    pub(crate) branch: Option<String>,
    /// Tag to set on the version
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Let anyone read the model
    #[arg(long)]
    pub(crate) public: bool,
    /// Keep the files where they are instead of copying them
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Version that this one derives from
    #[arg(long, value_name = "NAME@REV")]
    pub(crate) base: Option<String>,
    /// Licence identifier, such as apache-2.0
    #[arg(long, value_name = "L")]
    pub(crate) license: Option<String>,
    /// Refuse files that claim a tensor format and break it
    #[arg(long)]
    pub(crate) strict: bool,
    /// Also note whole-file BLAKE3 roots, for stock iroh-blobs clients
    #[arg(long)]
    pub(crate) file_roots: bool,
}

/// `lode pull`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  \
    lode pull acme/smollm@v1 --from TICKET --to ./smollm\n  \
    lode pull acme/smollm@v1:q4_k_m --to ./q\n  \
    lode pull acme/smollm@v1 --tensors 'model.layers.0.*' --to ./part\n  \
    lode pull acme/smollm@v1 --slice tp=2/8 --to ./rank2\n  \
    lode pull acme/smollm@v1 --tensors model.embed_tokens.weight --rows 0..1024 --to ./rows\n  \
    lode pull acme/smollm --include '*.json' --dry-run")]
pub(crate) struct PullArgs {
    /// What to fetch
    #[arg(value_name = "NAME[@REV][:VARIANT]")]
    pub(crate) name: String,
    /// Folder to write the files to [default: keep them in the store]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Fetch only these files; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Fetch only these tensors; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) tensors: Vec<String>,
    /// Fetch only what one rank needs: tp=R/N, layers=A..B, experts=A..B; may be repeated
    #[arg(long, value_name = "SLICE")]
    pub(crate) slice: Vec<String>,
    /// Fetch only these rows of the tensors of --tensors
    #[arg(
        long,
        value_name = "A..B",
        requires = "tensors",
        conflicts_with = "slice"
    )]
    pub(crate) rows: Option<String>,
    /// Ticket of a peer that has it; may be repeated
    #[arg(long, value_name = "TICKET")]
    pub(crate) from: Vec<String>,
    /// Most bytes a second, over all peers [example: 10MB]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) max_rate: Option<u64>,
    /// Replace existing files that differ
    #[arg(long)]
    pub(crate) force: bool,
    /// Say what would be fetched, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take no bytes over plain TCP, from peers on private addresses either
    #[arg(long)]
    pub(crate) no_lan: bool,
    #[command(flatten)]
    pub(crate) upstream: UpstreamArgs,
}

/// Another hub.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Another hub")]
pub(crate) struct UpstreamArgs {
    /// Address of a Hub-compatible server to take models from [example: https://huggingface.co]
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// File with the token to show it
    #[arg(long, value_name = "FILE", requires = "upstream")]
    pub(crate) upstream_token_file: Option<PathBuf>,
    /// Let it, and where it redirects to, be in a private network or on this machine
    #[arg(long, requires = "upstream")]
    pub(crate) upstream_private: bool,
}

impl UpstreamArgs {
    /// The hub that is named, if one is; a relative path of its token is taken from `cwd`.
    pub(crate) fn named(self, cwd: &std::path::Path) -> Option<lode_node::origin::Upstream> {
        Some(lode_node::origin::Upstream {
            url: self.upstream?,
            token_file: self.upstream_token_file.map(|path| cwd.join(path)),
            private: self.upstream_private,
        })
    }
}

/// `lode variant`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    lode variant ls acme/smollm@v1\n  \
    lode pull acme/smollm@v1:q4_k_m --to ./q\n  \
    lode variant make acme/smollm@v1:q4_k_m\n  \
    lode variant check acme/smollm@v1:q4_k_m --from TICKET")]
pub(crate) enum VariantSub {
    /// List the variants of a version with their exact sizes; nothing is made
    Ls {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
    },
    /// Make a variant and keep its bytes, under a signed claim
    Make {
        #[arg(value_name = "NAME[@REV]:VARIANT")]
        name: String,
        /// Ticket of a peer that has the version; may be repeated
        #[arg(long, value_name = "TICKET")]
        from: Vec<String>,
    },
    /// Compare parts of a kept variant, chosen at random, with what its recipe makes
    Check {
        #[arg(value_name = "NAME[@REV]:VARIANT")]
        name: String,
        /// Ticket of a peer whose claim is checked; may be repeated
        #[arg(long, value_name = "TICKET")]
        from: Vec<String>,
        /// Groups of 16 KiB to compare
        #[arg(long, value_name = "N", default_value_t = 64)]
        groups: u32,
    },
}

/// `lode branch`.
#[derive(Debug, Subcommand)]
pub(crate) enum BranchSub {
    /// List the branches and tags of a model
    Ls { name: String },
    /// Set a branch to a version, making the branch if need be
    Set {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
        branch: String,
    },
    /// Remove a branch
    Rm { name: String, branch: String },
}

/// `lode peers`.
#[derive(Debug, Subcommand)]
pub(crate) enum PeersSub {
    /// Add the peers of a ticket to the address book
    Add { ticket: String },
}

/// `lode key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeySub {
    /// Print the publisher id of this home
    Show,
    /// Make the identity of this home, if it has none
    New,
}

/// `lode token`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    lode token create --scope read --model 'acme/*' --expires 90d --name ci\n  \
    lode token rm ci")]
pub(crate) enum TokenSub {
    /// Make a token and print it, this once
    Create {
        /// What it is for: read, write (and read), or admin (all that the owner may do over HTTP)
        #[arg(long, value_name = "SCOPE", default_value = "read", value_parser = parse_power)]
        scope: Power,
        /// Models that it is for: alias/GLOB, KEY/GLOB, */GLOB, or * for all; may be repeated [default: *]
        #[arg(long, value_name = "GLOB")]
        model: Vec<String>,
        /// How long it holds [default: until it is removed] [example: 90d]
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        expires: Option<u64>,
        /// What it is called [default: its id]
        #[arg(long)]
        name: Option<String>,
    },
    /// List tokens
    Ls,
    /// Remove a token: it lets nobody in from then on
    Rm {
        /// Its name or id
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// Remove all; HTTP on loopback acts as the owner again
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
}

/// Reads what a token is for.
fn parse_power(text: &str) -> Result<Power, String> {
    match text {
        "read" => Ok(Power::Read),
        "write" => Ok(Power::Write),
        "admin" => Ok(Power::Admin),
        _ => Err("write read, write or admin".to_owned()),
    }
}

/// `lode config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigSub {
    /// Show the settings in force and where each comes from
    Show,
}

/// `lode serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Address of the HTTP server
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7070")]
    pub(crate) http: std::net::SocketAddr,
    #[command(flatten)]
    pub(crate) door: DoorArgs,
    /// UDP address for peers [default: every address, at the port that the home keeps]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Relay to use instead of the public ones; may be repeated
    #[arg(long, value_name = "URL", conflicts_with = "no_relay")]
    pub(crate) relay: Vec<String>,
    /// Most bytes a second to all peers together [example: 10MB]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) max_upload: Option<u64>,
    /// Most bytes a second to each peer
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) max_upload_peer: Option<u64>,
    /// Most bytes a second from peers, over all downloads
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) max_download: Option<u64>,
    /// Send and take no bytes over plain TCP [default: of public models, between private addresses]
    #[arg(long)]
    pub(crate) no_lan: bool,
    /// Most bytes on disk; what was pulled leaves, least recently used first [example: 500GB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_size: Option<u64>,
    #[command(flatten)]
    pub(crate) upstream: UpstreamArgs,
}

/// Who is let in over HTTP.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct DoorArgs {
    /// Let whoever reaches an address that is not loopback act as the owner, until there is a token
    #[arg(long)]
    pub(crate) insecure_open: bool,
    /// Want a token for public models too, once there is one
    #[arg(long)]
    pub(crate) no_anonymous: bool,
    /// Answer to this name, without a token too; may be repeated [example: models.example.org]
    #[arg(long, value_name = "NAME", value_parser = parse_host)]
    pub(crate) host: Vec<String>,
    /// Let pages of this site read, `*` for all; may be repeated [example: https://app.example.org]
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin)]
    pub(crate) cors: Vec<String>,
    /// Certificates for TLS, as PEM: the node's first; read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Most requests a second by one token, over time; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) rate: u32,
    /// Most requests a second from one address without a token, over time; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) rate_anonymous: u32,
    /// Offer large files of models by Xet too, to clients of the Hub that know it
    #[arg(long)]
    pub(crate) xet_reads: bool,
}

/// Reads a name of this machine: one that a `Host` header can have, without a port.
fn parse_host(text: &str) -> Result<String, String> {
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    match (1..=253).contains(&text.len()) && text.bytes().all(permitted) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("write a name such as models.example.org, without a port".to_owned()),
    }
}

/// Reads an origin as browsers write it.
fn parse_origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let site = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let permitted =
        |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && byte != b'/';
    match site.is_some_and(|site| !site.is_empty() && site.bytes().all(permitted)) {
        true => Ok(text.to_owned()),
        false => Err("write https://NAME[:PORT] in lower case, or * for all".to_owned()),
    }
}

/// `lode demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Keep the temporary homes, and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for good in ["*", "https://app.example.org", "http://localhost:3000"] {
            assert_eq!(parse_origin(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "app.example.org",
            "https://",
            "https://A.example",
            "https://a/",
            "null",
        ] {
            assert!(parse_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_this_machine_have_no_port() {
        assert_eq!(
            parse_host("Models.example").as_deref(),
            Ok("models.example")
        );
        for bad in ["", "a:1", "a/b", "http://a", &"a".repeat(254)] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_of_arguments_is_sound() {
        Line::command().debug_assert();
    }
}
