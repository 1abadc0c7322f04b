//! Lays a variant out: reads the headers and small files that it depends on, from the home or from peers.

use std::{fmt, sync::Arc};

use lode_quantize::{
    Content, Recipe, Source, SourceFile, VirtualFile, Wanted,
    variant::{FileBytes, Layouts, VariantFile, wanted},
};
use lode_store::{
    TreeId, VersionId,
    cut::TENSORS_1,
    tree::{File, Mode, Tree},
};
use lode_tensors::{ByteRange, Format, Header};

use super::{VariantId, kept, limits, reader::VariantReader};
use crate::{
    Node,
    command::Failure,
    fetch::{Fetcher, Of, RemoteFile},
    read::{FileReader, FileTensors, Layout, Parsed, ReadError, Reads, TensorAt, parse_header},
};

/// A variant, laid out.
#[derive(Debug)]
pub struct VariantAt {
    /// Its id.
    pub id: VariantId,
    /// What makes it.
    pub recipe: Recipe,
    /// Its files, by path.
    pub files: Vec<VariantFileAt>,
    /// The tree that it is made from.
    pub tree: Arc<Tree>,
    layout: Arc<Layout>,
}

/// A file of a variant.
#[derive(Debug)]
pub struct VariantFileAt {
    /// Its path.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// Its bytes.
    pub(crate) bytes: FileBytes,
    /// The files of the tree that it is made of, by position.
    pub(crate) sources: Vec<usize>,
}

impl VariantFileAt {
    /// The file of the version that it is the same as; nothing when it is made.
    pub fn same_as<'t>(&self, tree: &'t Tree) -> Option<&'t File> {
        match self.bytes {
            FileBytes::Same(at) => tree.files().get(at),
            FileBytes::Made(_) => None,
        }
    }

    /// What makes it; nothing when it is the same as a file of the version.
    pub(crate) fn made(&self) -> Option<&Arc<VirtualFile>> {
        match &self.bytes {
            FileBytes::Made(made) => Some(made),
            FileBytes::Same(_) => None,
        }
    }
}

impl VariantAt {
    /// Bytes of all its files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    /// Bytes of those that are made.
    pub fn size_made(&self) -> u64 {
        let made = self.files.iter().filter(|file| file.made().is_some());
        made.map(|file| file.len).sum()
    }

    /// The file with this path, and its position.
    pub fn file(&self, path: &str) -> Option<(usize, &VariantFileAt)> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path))
            .ok()?;
        Some((at, &self.files[at]))
    }

    /// The tensors of the files that are made.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn new(tree_id: TreeId, tree: Arc<Tree>, recipe: Recipe, laid_out: Vec<VariantFile>) -> Self {
        let mut files = Vec::new();
        for file in laid_out {
            let (len, sources) = match &file.bytes {
                FileBytes::Same(at) => (tree.files()[*at].size, vec![*at]),
                FileBytes::Made(made) => (made.len(), made.sources()),
            };
            files.push(VariantFileAt {
                path: file.path,
                len,
                bytes: file.bytes,
                sources,
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let layout = Arc::new(Layout::new(files.iter().filter_map(tensors).collect()));
        Self {
            id: VariantId::new(tree_id, &recipe),
            recipe,
            files,
            tree,
            layout,
        }
    }

    /// Bytes that it takes in a cache, about.
    fn weight(&self) -> usize {
        let made = self.files.iter().filter_map(VariantFileAt::made);
        let made: usize = made.map(|made| made.weight()).sum();
        made + self.layout.weight() + self.files.len() * 128
    }
}

/// The tensors of a file that is made.
fn tensors(file: &VariantFileAt) -> Option<FileTensors> {
    let made = file.made()?;
    if made.tensors().is_empty() {
        return None;
    }
    let tensors = made.tensors().iter().map(|tensor| TensorAt {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        range: tensor.range,
    });
    let format = match file.path.ends_with(".gguf") {
        true => Format::Gguf { version: 3 },
        false => Format::Safetensors,
    };
    Some(FileTensors {
        path: file.path.clone(),
        format,
        tensors: tensors.collect(),
    })
}

/// A variant that somebody made whole and kept.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The version that it is kept as.
    pub version: VersionId,
    /// Its files; nothing when the documents are not here.
    pub tree: Option<Arc<Tree>>,
}

/// Opens variants of one version for readers.
#[derive(Clone)]
pub struct Opener {
    reads: Reads,
    fetcher: Option<Fetcher>,
    of: Of,
    tree_id: TreeId,
    tree: Arc<Tree>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({})", self.tree_id)
    }
}

/// A file of the version, open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<FileReader>,
    /// Where bytes come from that are not held; nothing without a node.
    pub(super) remote: Option<RemoteFile>,
}

impl Opened {
    /// The same for another reader.
    pub(super) fn again(&self) -> Self {
        let file = Arc::new(self.file.again());
        let remote = self.remote.as_ref();
        Self {
            remote: remote.map(|remote| remote.again(Arc::clone(&file))),
            file,
        }
    }

    pub(super) async fn read_all(&self, range: ByteRange) -> Result<Vec<u8>, Failure> {
        match &self.remote {
            Some(remote) => remote.read_all(range).await,
            None => {
                let file = Arc::clone(&self.file);
                blocking(move || Ok(file.read_all(range)?)).await
            }
        }
    }
}

/// Does what blocks on a thread where that is fine.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|error| Failure::failed(format!("reading stopped: {error}")))?
}

impl Opener {
    /// Opens variants of the version `of`, whose tree this is. Without a fetcher from what is held alone.
    pub fn new(
        reads: Reads,
        fetcher: Option<Fetcher>,
        of: Of,
        tree_id: TreeId,
        tree: Arc<Tree>,
    ) -> Self {
        Self {
            reads,
            fetcher,
            of,
            tree_id,
            tree,
        }
    }

    /// The tensors of the version itself.
    ///
    /// # Errors
    /// A header is nowhere to be had.
    pub async fn layout(&self) -> Result<Arc<Layout>, Failure> {
        let (reads, tree) = (self.reads.clone(), self.tree_id);
        let held = blocking(move || match reads.layout(tree) {
            Err(error @ ReadError::NotHeld { .. }) => Ok(Err(error)),
            layout => Ok(Ok(layout?)),
        });
        match (held.await?, &self.fetcher) {
            (Err(_), Some(fetcher)) => fetcher.layout(&self.of, self.tree_id, &self.tree).await,
            (layout, _) => Ok(layout?),
        }
    }

    /// The same over a node, with what its peers have.
    pub(crate) fn of_node(node: &Node, of: Of, tree_id: TreeId, tree: Arc<Tree>) -> Self {
        let fetcher = Some(node.fetcher());
        Self::new(node.reads().clone(), fetcher, of, tree_id, tree)
    }

    /// The tree that variants are made from.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// What was made a moment ago.
    pub(super) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Lays the variant out, or takes it as it was laid out a moment ago.
    ///
    /// # Errors
    /// It cannot be made of this version; or what it depends on is nowhere to be had.
    pub async fn variant(&self, recipe: Recipe) -> Result<Arc<VariantAt>, Failure> {
        if let Some(known) = self.reads.caches().variants.get((self.tree_id, recipe)) {
            return Ok(known);
        }
        let source = self.read(recipe, self.unread()).await?;
        let this = self.clone();
        blocking(move || this.lay_out(recipe, &Layouts::new(&source))).await
    }

    /// All variants of the version, each with why it cannot be made if so. Files are read once for all.
    ///
    /// # Errors
    /// There is no model, or what they depend on is nowhere to be had.
    pub async fn all(&self) -> Result<Vec<(Recipe, Result<Arc<VariantAt>, Failure>)>, Failure> {
        let recipes = Recipe::all(super::paths(&self.tree));
        if recipes.is_empty() {
            return Err(lode_quantize::RecipeError::NoModel.into());
        }
        let known = |recipe: &Recipe| self.reads.caches().variants.get((self.tree_id, *recipe));
        let known: Vec<_> = recipes.iter().map(known).collect();
        let mut source = self.unread();
        for (recipe, _) in recipes
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
        {
            source = self.read(*recipe, source).await?;
        }
        let this = self.clone();
        blocking(move || {
            let layouts = Layouts::new(&source);
            let laid_out = recipes.into_iter().zip(known).map(|(recipe, known)| {
                let laid_out = known.map_or_else(|| this.lay_out(recipe, &layouts), Ok);
                (recipe, laid_out)
            });
            Ok(laid_out.collect())
        })
        .await
    }

    fn unread(&self) -> Source {
        Source {
            files: self.tree.files().iter().map(unread).collect(),
        }
    }

    fn lay_out(&self, recipe: Recipe, layouts: &Layouts<'_>) -> Result<Arc<VariantAt>, Failure> {
        let files = layouts.layout(&recipe)?;
        let at = VariantAt::new(self.tree_id, Arc::clone(&self.tree), recipe, files);
        let at = Arc::new(at);
        let known = &self.reads.caches().variants;
        known.put((self.tree_id, recipe), &at, at.weight());
        Ok(at)
    }

    /// Reads what the recipe wants to know and that was not read yet.
    async fn read(&self, recipe: Recipe, mut source: Source) -> Result<Source, Failure> {
        for (at, file) in self.tree.files().iter().enumerate() {
            if file.mode == Mode::Link || !matches!(source.files[at].content, Content::Unread) {
                continue;
            }
            let content = match wanted(&recipe, &file.path) {
                Wanted::Nothing => continue,
                Wanted::Whole { bytes_max } if file.size > bytes_max => continue,
                Wanted::Whole { .. } => {
                    let (start, end) = (0, file.size);
                    let whole = ByteRange { start, end };
                    Content::Whole(self.open(at).await?.read_all(whole).await?)
                }
                Wanted::Header => self.header(at).await?,
            };
            source.files[at].content = content;
        }
        Ok(source)
    }

    async fn header(&self, at: usize) -> Result<Content, Failure> {
        let file = &self.tree.files()[at];
        let opened = self.open(at).await?;
        // By the rule of tensors the header is a chunk of its own.
        let mut bytes = match file.chunks.rule == TENSORS_1 && opened.file.chunk_count() > 0 {
            true => u64::from(opened.file.chunk_at(0).length),
            false => lode_tensors::limits::PREFIX_BYTES_FIRST,
        };
        loop {
            let (start, end) = (0, bytes.min(file.size));
            let mut prefix = opened.read_all(ByteRange { start, end }).await?;
            match parse_header(file, &prefix) {
                Parsed::Header(header) => {
                    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
                    prefix.truncate(len);
                    return Ok(Content::Tensors {
                        header,
                        bytes: prefix,
                    });
                }
                Parsed::NeedMore(more) => bytes = more,
                Parsed::Broken => return Ok(Content::Unread),
            }
        }
    }

    /// Opens a file of the version; asks peers for its chunk list if that is not held.
    pub(super) async fn open(&self, at: usize) -> Result<Opened, Failure> {
        let open = || {
            let (reads, tree) = (self.reads.clone(), Arc::clone(&self.tree));
            blocking(move || match reads.file(&tree.files()[at]) {
                Err(error @ ReadError::NotHeld { .. }) => Ok(Err(error)),
                opened => Ok(Ok(opened?)),
            })
        };
        let opened = match (open().await?, &self.fetcher) {
            (Err(_), Some(fetcher)) => {
                fetcher.lists(&self.of, &[&self.tree.files()[at]]).await?;
                open().await??
            }
            (opened, _) => opened?,
        };
        let file = Arc::new(opened);
        let remote = self.fetcher.as_ref().map(|fetcher| {
            fetcher.file(self.of.clone(), Arc::clone(&self.tree), Arc::clone(&file))
        });
        Ok(Opened { file, remote })
    }

    /// The files of the variant as somebody made them whole and kept them: this home, or as the publisher
    /// claims. Nothing where nobody did, or the list is not here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn kept(&self, recipe: Recipe) -> Result<Option<Arc<Tree>>, Failure> {
        Ok(self.claimed(recipe).await?.and_then(|claimed| claimed.tree))
    }

    /// What is claimed to be the variant, by this home or by the publisher. A claim that names something else
    /// is left aside.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn claimed(&self, recipe: Recipe) -> Result<Option<Claimed>, Failure> {
        let (reads, of) = (self.reads.clone(), self.of.clone());
        blocking(move || {
            let (store, base) = (reads.store(), &of.version);
            let claims = kept::claims(store, &of.publisher, &of.model, base, &recipe)?;
            let Some(version) = claims.version() else {
                return Ok(None);
            };
            let tree = reads.version(version).and_then(|kept| {
                let is_it = kept::made_from(&kept) == Some((*base, recipe));
                is_it.then(|| reads.tree(kept.doc.tree)).transpose()
            });
            match tree {
                Ok(None) => Ok(None),
                Ok(tree) => Ok(Some(Claimed { version, tree })),
                Err(ReadError::NotHeld { .. }) => Ok(Some(Claimed {
                    version,
                    tree: None,
                })),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The header of a file of the version; nothing of one that has none.
    ///
    /// # Errors
    /// It is nowhere to be had.
    pub async fn stored_header(&self, at: usize) -> Result<Option<Header>, Failure> {
        match self.header(at).await? {
            Content::Tensors { header, .. } => Ok(Some(header)),
            _ => Ok(None),
        }
    }

    /// Opens a file of a variant for one reader.
    ///
    /// # Errors
    /// The chunk list of a file that it is made of is nowhere to be had.
    ///
    /// # Panics
    /// When there is no such file.
    pub async fn reader(&self, at: &Arc<VariantAt>, file: usize) -> Result<VariantReader, Failure> {
        let mut sources = Vec::new();
        for &source in &at.files[file].sources {
            sources.push((source, self.open(source).await?));
        }
        Ok(VariantReader::new(
            self.clone(),
            Arc::clone(at),
            file,
            sources,
        ))
    }
}

fn unread(file: &File) -> SourceFile {
    SourceFile {
        path: file.path.clone(),
        size: file.size,
        content: Content::Unread,
    }
}

/// The cache of laid-out variants.
pub(crate) type Variants = crate::read::Cache<(TreeId, Recipe), VariantAt>;

/// An empty one.
pub(crate) fn variants() -> Variants {
    Variants::new(limits::LAYOUTS_BYTES_MAX)
}
