//! What a command line asks for: a [`Command`] to a node, or something that the binary does by itself.
//!
//! Relative paths become absolute here, since the node that answers may run in another folder.

mod collection;

use std::path::{Path, PathBuf};

use lode_node::command::{
    CollectionCommand, Command, Failure, FailureKind, Pull, Push, TokenCreate, VariantCheck,
};

use crate::args::{
    BranchSub, DemoArgs, KeySub, PeersSub, PullArgs, PushArgs, ServeArgs, Sub, TokenSub, VariantSub,
};

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Ask the node of the home.
    Ask(Command),
    /// Be the node of the home.
    Serve(Box<ServeArgs>),
    /// Show Lode at work.
    Demo(DemoArgs),
    /// Print the settings in force.
    ConfigShow,
    /// Print a completion script.
    Completions(clap_complete::Shell),
    /// Write man pages to a folder.
    Man(PathBuf),
}

impl Action {
    /// Works out what `sub` asks for; relative paths are taken from `cwd`.
    ///
    /// # Errors
    /// A path that is not UTF-8, which no manifest and no JSON can name; a vector that cannot be read.
    pub(crate) fn of(sub: Sub, cwd: &Path) -> Result<Self, Failure> {
        Ok(Self::Ask(match sub {
            Sub::Push(push) => Command::Push(push_of(push, cwd)?),
            Sub::Pull(pull) => Command::Pull(pull_of(pull, cwd)?),
            Sub::Ls { name } => Command::Ls { name },
            Sub::Show { name } => Command::Show { name },
            Sub::Tensors { name } => Command::Tensors { name },
            Sub::Variant { variant } => match variant {
                VariantSub::Ls { name } => Command::VariantLs { name },
                VariantSub::Make { name, from } => Command::VariantMake { name, from },
                VariantSub::Check { name, from, groups } => {
                    Command::VariantCheck(VariantCheck { name, from, groups })
                }
            },
            Sub::Path { name } => Command::Path { name },
            Sub::Log { name } => Command::Log { name },
            Sub::Diff { from, to, stats } => Command::Diff { from, to, stats },
            Sub::Lineage { name } => Command::Lineage { name },
            Sub::Tag { name, tag, force } => Command::Tag { name, tag, force },
            Sub::Branch { branch } => match branch {
                BranchSub::Ls { name } => Command::Branches { name },
                BranchSub::Set { name, branch } => Command::BranchSet { name, branch },
                BranchSub::Rm { name, branch } => Command::BranchRemove { name, branch },
            },
            Sub::Rm { name, force } => Command::Remove { name, force },
            Sub::Pin { name } => Command::Pin { name },
            Sub::Unpin { name } => Command::Unpin { name },
            Sub::Gc { dry_run } => Command::Gc { dry_run },
            Sub::Verify { name } => Command::Verify { name },
            Sub::Scrub => Command::Scrub,
            Sub::Share { name, expires } => Command::Share {
                name,
                expires_seconds: expires,
            },
            Sub::Peers { peers: None } => Command::Peers,
            Sub::Peers {
                peers: Some(PeersSub::Add { ticket }),
            } => Command::PeersAdd { ticket },
            Sub::Alias { alias, key } => Command::Alias { alias, key },
            Sub::Key { key } => Command::Key {
                create: matches!(key, KeySub::New),
            },
            Sub::Collection { collection } => {
                Command::Collection(Box::new(collection::collection(collection)?))
            }
            Sub::Index(index) => Command::Collection(Box::new(collection::index(*index, cwd)?)),
            Sub::Search(search) => Command::Collection(Box::new(collection::search(*search, cwd)?)),
            Sub::Token { token } => match token {
                TokenSub::Create {
                    scope,
                    model,
                    expires,
                    name,
                } => Command::TokenCreate(TokenCreate {
                    name,
                    scope,
                    models: model,
                    expires_seconds: expires,
                }),
                TokenSub::Ls => Command::TokenLs,
                // Without a name, all of them: the arguments want one or the other.
                TokenSub::Rm { name, all: _ } => Command::TokenRemove { name },
            },
            Sub::Status => Command::Status,
            Sub::Pause { name } => Command::Pause { name },
            Sub::Resume { name } => Command::Resume { name },
            Sub::Doctor { rebuild } => Command::Doctor { rebuild },
            Sub::Serve(serve) => return Ok(Self::Serve(serve)),
            Sub::Demo(demo) => return Ok(Self::Demo(demo)),
            Sub::Config { .. } => return Ok(Self::ConfigShow),
            Sub::Completions { shell } => return Ok(Self::Completions(shell)),
            Sub::Man { dir } => return Ok(Self::Man(dir)),
        }))
    }
}

/// Whether `command` takes long enough that `--json` reports its events, a line each.
pub(crate) fn is_long(command: &Command) -> bool {
    match command {
        Command::Collection(command) => matches!(
            **command,
            CollectionCommand::Import(_)
                | CollectionCommand::Commit(_)
                | CollectionCommand::Restore(_)
                | CollectionCommand::Compact { .. }
                | CollectionCommand::Purge { .. }
        ),
        command => matches!(
            command,
            Command::Push(_)
                | Command::Pull(_)
                | Command::VariantMake { .. }
                | Command::VariantCheck(_)
                | Command::Gc { .. }
                | Command::Verify { .. }
                | Command::Scrub
        ),
    }
}

fn push_of(push: PushArgs, cwd: &Path) -> Result<Push, Failure> {
    Ok(Push {
        dir: absolute(&push.dir, cwd)?,
        name: push.name,
        message: push.message,
        branch: push.branch,
        tag: push.tag,
        public: push.public,
        in_place: push.in_place,
        base: push.base,
        license: push.license,
        strict: push.strict,
        file_roots: push.file_roots,
    })
}

fn pull_of(pull: PullArgs, cwd: &Path) -> Result<Pull, Failure> {
    Ok(Pull {
        name: pull.name,
        to: pull.to.map(|to| absolute(&to, cwd)).transpose()?,
        include: pull.include,
        tensors: pull.tensors,
        slice: pull.slice,
        rows: pull.rows,
        from: pull.from,
        max_rate: pull.max_rate,
        force: pull.force,
        dry_run: pull.dry_run,
        no_lan: pull.no_lan,
        upstream: pull.upstream.named(cwd).map(Box::new),
    })
}

/// Joins `path` to `cwd`, dropping `.` parts; `..` stays, for it may step out of a symbolic link.
fn absolute(path: &Path, cwd: &Path) -> Result<String, Failure> {
    let path: PathBuf = cwd.join(path).components().collect();
    path.to_str().map(str::to_owned).ok_or_else(|| Failure {
        kind: FailureKind::Usage,
        message: format!("the path {} is not UTF-8", path.display()),
        advice: Some("rename it, or reach it through a link with a plain name".to_owned()),
    })
}

#[cfg(test)]
mod tests;
