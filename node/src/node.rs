//! One home and what runs on it: the store, the network once it is needed, and the commands.
//!
//! A home has one owner at a time; the store's lock says who. Everything that a person or a program
//! can ask arrives here as a [`Command`].

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use lode_store::{Store, name::NameRev};
use tokio::sync::OnceCell;

use crate::{
    EventSink, Jobs, check,
    collections::{self, Collections},
    command::{Command, Failure, Outcome},
    diff,
    fetch::{Fetcher, Fetching},
    lineage, models,
    network::{Network, NetworkOptions},
    origin::{self, Origins, Upstream},
    publisher, pull, push,
    read::Reads,
    refs, remove, resolve, share, status,
    tokens::{self, Tokens},
    upload::{self, Uploads},
    variants,
};

/// How a home is opened.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Bytes that the home may take on disk.
    pub disk_max: Option<u64>,
    /// Opens a home on a network file system too.
    pub force: bool,
    /// How the node meets others.
    pub network: NetworkOptions,
    /// The hub that is asked for what neither this home nor a peer has.
    pub upstream: Option<Upstream>,
}

/// A running node. Clones are handles of the same node.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: PathBuf,
    reads: Reads,
    tokens: Arc<Tokens>,
    options: NodeOptions,
    network: OnceCell<Network>,
    fetching: Arc<Fetching>,
    uploads: upload::State,
    collections: Arc<collections::State>,
    origins: Arc<origin::State>,
    jobs: Arc<Jobs>,
    started: Instant,
    http: Mutex<Option<SocketAddr>>,
}

impl Node {
    /// Opens the home and takes its lock. The network stays down until something needs it.
    ///
    /// # Errors
    /// When another process holds the home, its format is newer, or its files cannot be read.
    pub fn open(home: &Path, options: NodeOptions) -> Result<Self, Failure> {
        let store_options = lode_store::store::Options {
            max_size: options.disk_max,
            force_network: options.force,
            ..lode_store::store::Options::default()
        };
        let store = Store::open(home, store_options)?;
        // Files of variants that were on their way into the store when a node was killed.
        variants::discard_temporary(home);
        let tokens = Tokens::open(store.clone())?;
        let uploads = upload::State::open(home)
            .map_err(|error| Failure::failed(format!("{}: {error}", home.display())))?;
        Ok(Self {
            inner: Arc::new(Inner {
                home: home.to_owned(),
                tokens: Arc::new(tokens),
                collections: collections::State::new(home, store.clone()),
                reads: Reads::new(store),
                options,
                network: OnceCell::new(),
                fetching: Arc::default(),
                uploads,
                origins: Arc::new(origin::State::open(home)),
                jobs: Arc::default(),
                started: Instant::now(),
                http: Mutex::new(None),
            }),
        })
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.inner.home
    }

    /// The store. Its calls block: from async code, use [`Self::blocking`].
    pub fn store(&self) -> &Store {
        self.inner.reads.store()
    }

    /// What the home holds, by name.
    pub fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    /// The tokens of the home.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.inner.tokens
    }

    /// The options that the node was opened with.
    pub fn options(&self) -> &NodeOptions {
        &self.inner.options
    }

    /// The commands under way.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.inner.jobs
    }

    /// When the node was opened.
    pub fn started(&self) -> Instant {
        self.inner.started
    }

    /// The HTTP address that serves this node, once there is one.
    pub fn http(&self) -> Option<SocketAddr> {
        *self
            .inner
            .http
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the HTTP address that serves this node.
    pub fn set_http(&self, address: SocketAddr) {
        *self
            .inner
            .http
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// The network, brought up on first use.
    ///
    /// # Errors
    /// When no UDP socket can be bound.
    pub async fn network(&self) -> Result<&Network, Failure> {
        self.inner
            .network
            .get_or_try_init(|| Network::start(self))
            .await
    }

    /// The network, if it is up.
    pub fn network_if_up(&self) -> Option<&Network> {
        self.inner.network.get()
    }

    /// Fetches for readers what is not held.
    pub fn fetcher(&self) -> Fetcher {
        Fetcher::new(self.clone())
    }

    /// Takes what clients upload.
    pub fn uploads(&self) -> Uploads {
        Uploads::new(self.clone())
    }

    /// The collections of the home.
    pub fn collections(&self) -> Collections {
        Collections::new(self.clone())
    }

    pub(crate) fn collection_state(&self) -> &Arc<collections::State> {
        &self.inner.collections
    }

    pub(crate) fn upload_state(&self) -> &upload::State {
        &self.inner.uploads
    }

    /// Models of other hubs.
    pub fn origins(&self) -> Origins {
        Origins::new(self.clone())
    }

    pub(crate) fn origin_state(&self) -> &Arc<origin::State> {
        &self.inner.origins
    }

    /// What all that is fetched for readers shares.
    pub(crate) fn fetching(&self) -> &Arc<Fetching> {
        &self.inner.fetching
    }

    /// Runs `work` on a thread that may block.
    ///
    /// # Errors
    /// What `work` returns; a panic in it is a failure of the program.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let node = self.clone();
        tokio::task::spawn_blocking(move || work(&node))
            .await
            .map_err(|error| Failure::failed(format!("internal error: {error}")))?
    }

    /// Carries out one command.
    ///
    /// # Errors
    /// With a kind from which exit code and HTTP status follow.
    pub async fn run(&self, mut command: Command, events: EventSink) -> Result<Outcome, Failure> {
        let _job = self.inner.jobs.enter(&events);
        let command = self
            .blocking(move |node| {
                origin::named(node, &mut command)?;
                Ok(command)
            })
            .await?;
        match command {
            Command::Push(request) => {
                self.blocking(move |node| push::push(node, request, &events))
                    .await
            }
            Command::Pull(request) => {
                let asked = request.clone();
                let outcome = Box::pin(pull::pull(self, request, &events)).await?;
                self.blocking(move |node| {
                    if let Outcome::Pulled(pulled) = &outcome {
                        collections::replica::after_pull(node, &asked, pulled, &events)?;
                    }
                    Ok(outcome)
                })
                .await
            }
            Command::VariantLs { name } => variants::list::list(self, &name).await,
            Command::VariantMake { name, from } => {
                Box::pin(pull::make(self, name, from, &events)).await
            }
            Command::VariantCheck(request) => {
                Box::pin(variants::check::check(self, &request, &events)).await
            }
            Command::Ls { name: Some(name) } => match self.unkept(&name).await? {
                Some(name) => variants::list::files(self, &name).await,
                None => self.blocking(move |node| models::files(node, &name)).await,
            },
            Command::Tensors { name } => match self.unkept(&name).await? {
                Some(name) => variants::list::tensors(self, &name).await,
                None => {
                    self.blocking(move |node| models::tensors(node, &name))
                        .await
                }
            },
            Command::Show { name } => match self.unkept(&name).await? {
                Some(name) => variants::list::show(self, &name).await,
                None => self.blocking(move |node| models::show(node, &name)).await,
            },
            Command::Lineage { name } => match self.unkept(&name).await? {
                Some(name) => variants::list::lineage(self, &name).await,
                None => {
                    self.blocking(move |node| lineage::lineage(node, &name))
                        .await
                }
            },
            Command::Share {
                name,
                expires_seconds,
            } => share::share(self, &name, expires_seconds).await,
            Command::Status => status::status(self).await,
            Command::Pause { name } => status::pause(self, name.as_deref(), true),
            Command::Resume { name } => status::pause(self, name.as_deref(), false),
            Command::Peers => status::peers(self).await,
            Command::PeersAdd { ticket } => share::add_peers(self, &ticket).await,
            local => {
                self.blocking(move |node| run_local(node, local, &events))
                    .await
            }
        }
    }

    /// The name of a variant that no version is kept of: what there is to say of it is made.
    async fn unkept(&self, name: &str) -> Result<Option<NameRev>, Failure> {
        let name: NameRev = name.parse()?;
        if name.variant.is_none() {
            return Ok(None);
        }
        let found = {
            let name = name.clone();
            self.blocking(move |node| Ok(resolve::version(node, &name)))
                .await?
        };
        Ok(found.is_err().then_some(name))
    }

    /// Ends connections and waits for what was started.
    pub async fn shutdown(&self) {
        self.inner.collections.stop();
        self.inner.origins.stop();
        if let Some(network) = self.inner.network.get() {
            network.shutdown().await;
        }
    }
}

/// The commands that touch the home alone.
fn run_local(node: &Node, command: Command, events: &EventSink) -> Result<Outcome, Failure> {
    match command {
        Command::Ls { name: None } => models::list(node),
        Command::Path { name } => models::path(node, &name),
        Command::Log { name } => models::log(node, &name),
        Command::Diff { from, to, stats } => diff::diff(node, &from, &to, stats, events),
        Command::Tag { name, tag, force } => refs::tag(node, &name, &tag, force),
        Command::Branches { name } => refs::list(node, &name),
        Command::BranchSet { name, branch } => refs::set_branch(node, &name, &branch),
        Command::BranchRemove { name, branch } => refs::remove_branch(node, &name, &branch),
        Command::Remove { name, force } => remove::remove(node, &name, force),
        Command::Pin { name } => remove::pin(node, &name, true),
        Command::Unpin { name } => remove::pin(node, &name, false),
        Command::Gc { dry_run } => check::gc(node, dry_run, events),
        Command::Verify { name } => check::verify(node, &name, events),
        Command::Scrub => check::scrub(node, events),
        Command::Doctor { rebuild } => check::doctor(node, rebuild, events),
        Command::Alias { alias, key } => publisher::alias(node, alias.as_deref(), key.as_deref()),
        Command::Key { create } => publisher::key(node, create),
        Command::Collection(asked) => collections::command::run(node, *asked, events),
        Command::TokenCreate(asked) => tokens::command::create(node, &asked),
        Command::TokenLs => Ok(tokens::command::list(node)),
        Command::TokenRemove { name } => tokens::command::remove(node, name.as_deref()),
        Command::Push(_)
        | Command::Pull(_)
        | Command::Ls { .. }
        | Command::Show { .. }
        | Command::Tensors { .. }
        | Command::Lineage { .. }
        | Command::VariantLs { .. }
        | Command::VariantMake { .. }
        | Command::VariantCheck(_)
        | Command::Share { .. }
        | Command::Status
        | Command::Pause { .. }
        | Command::Resume { .. }
        | Command::Peers
        | Command::PeersAdd { .. } => unreachable!("carried out by `run`"),
    }
}
