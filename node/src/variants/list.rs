//! `lode variant ls`, and what `ls`, `tensors`, `show` and `lineage` say of a variant that is made when it is read.

use std::sync::Arc;

use lode_store::name::{NameRev, PublisherName};

use super::{Opener, VariantAt, kept};
use crate::{
    Node,
    command::{Failure, FailureKind, FileRow, LineageRow, Outcome, Shown, VariantRow},
    fetch::Of,
    models, publisher,
    resolve::{self, Found},
};

/// The version that a name means, asked for among peers if it is not here, and what opens its variants.
pub(super) async fn base(node: &Node, name: &NameRev) -> Result<(Found, Opener), Failure> {
    let find = |name: NameRev| node.blocking(move |node| find(node, &name));
    let found = match find(name.clone()).await {
        Err(failure) if matches!(failure.kind, FailureKind::NotFound | FailureKind::NoPeer) => {
            let publisher = match &name.name.publisher {
                PublisherName::Key(key) => Some(*key),
                PublisherName::Alias(alias) => publisher::bound(node, alias)?,
            };
            let Some(publisher) = publisher else {
                return Err(failure);
            };
            let (model, rev) = (&name.name.model, name.rev.as_ref());
            if !node.fetcher().learn(publisher, model, rev).await? {
                return Err(failure);
            }
            find(name.clone()).await?
        }
        found => found?,
    };
    let (found, tree_id, tree) = found;
    let of = Of {
        publisher: found.publisher,
        model: found.model.clone(),
        version: found.id,
    };
    let opener = Opener::of_node(node, of, tree_id, tree);
    Ok((found, opener))
}

type BaseTree = (Found, lode_store::TreeId, Arc<lode_store::tree::Tree>);

fn find(node: &Node, name: &NameRev) -> Result<BaseTree, Failure> {
    let found = resolve::base(node, name)?;
    let tree_id = resolve::document(node, found.id)?.doc.tree;
    let tree = node.reads().tree(tree_id)?;
    Ok((found, tree_id, tree))
}

/// A variant by its full name, laid out.
pub(super) async fn named(
    node: &Node,
    name: &NameRev,
) -> Result<(Found, Opener, Arc<VariantAt>), Failure> {
    let variant = name.variant.as_deref().unwrap_or_default();
    let (found, opener) = base(node, name).await?;
    let recipe = super::recipe(variant, opener.tree())?;
    let at = opener.variant(recipe).await?;
    Ok((found, opener, at))
}

/// `lode variant ls NAME[@REV]`.
pub(crate) async fn list(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let name: NameRev = name.parse()?;
    let (found, opener) = base(node, &name).await?;
    let mut rows = Vec::new();
    for (recipe, laid_out) in opener.all().await? {
        if name
            .variant
            .as_ref()
            .is_some_and(|only| *only != recipe.name())
        {
            continue;
        }
        let (publisher, model, id) = (found.publisher, found.model.clone(), found.id);
        let claims =
            move |node: &Node| kept::claims(node.store(), &publisher, &model, &id, &recipe);
        let claims = node.blocking(claims).await?;
        let mut row = VariantRow {
            name: recipe.name(),
            method: recipe.method().name().to_owned(),
            rules: recipe.rules().to_owned(),
            kept: claims.own.map(|id| id.to_hex()),
            claimed: claims.publisher.map(|id| id.to_hex()),
            disagree: claims.disagree(),
            ..VariantRow::default()
        };
        match laid_out {
            Ok(at) => {
                row.variant = Some(at.id.to_hex());
                row.size = at.size();
                row.size_made = at.size_made();
                row.files = at.files.len() as u64;
            }
            Err(failure) => row.refused = Some(failure.message),
        }
        rows.push(row);
    }
    Ok(Outcome::Variants {
        version: found.id.to_hex(),
        variants: rows,
    })
}

/// `lode ls NAME[@REV]:VARIANT`.
pub(crate) async fn files(node: &Node, name: &NameRev) -> Result<Outcome, Failure> {
    let (found, _, at) = named(node, name).await?;
    Ok(Outcome::Files {
        version: found.id.to_hex(),
        files: node.blocking(move |node| file_rows(node, &at)).await?,
    })
}

/// Rows of files of which nothing is stored: what is held of one is all of it if what it is made of is held.
fn file_rows(node: &Node, at: &VariantAt) -> Result<Vec<FileRow>, Failure> {
    let rows = at.files.iter().map(|file| {
        let same = file.same_as(&at.tree);
        let mut whole = true;
        for &source in &file.sources {
            let source = &at.tree.files()[source];
            whole &= models::file_held(node, source)? >= source.size;
        }
        Ok(FileRow {
            path: file.path.clone(),
            size: file.len,
            // Nobody knows it before all of the file was made once.
            sha256: same.map_or_else(String::new, |file| {
                data_encoding::HEXLOWER.encode(&file.sha256)
            }),
            rule: same.map_or_else(|| "made".to_owned(), |file| file.chunks.rule.clone()),
            chunks: same.map_or(0, |file| file.chunks.count),
            size_held: if whole { file.len } else { 0 },
            root: None,
        })
    });
    rows.collect()
}

/// `lode tensors NAME[@REV]:VARIANT`.
pub(crate) async fn tensors(node: &Node, name: &NameRev) -> Result<Outcome, Failure> {
    let (found, _, at) = named(node, name).await?;
    Ok(Outcome::Tensors {
        version: found.id.to_hex(),
        tensors: models::tensor_rows(at.layout()),
    })
}

/// The name of the version that a variant is made from.
fn base_name(name: &NameRev) -> String {
    let name = NameRev {
        variant: None,
        ..name.clone()
    };
    name.to_string()
}

/// `lode show NAME[@REV]:VARIANT`: the version, with what the variant makes of it.
pub(crate) async fn show(node: &Node, name: &NameRev) -> Result<Outcome, Failure> {
    let (_, _, at) = named(node, name).await?;
    let base = base_name(name);
    let shown = node.blocking(move |node| models::show(node, &base)).await?;
    let Outcome::Shown(shown) = shown else {
        return Ok(shown);
    };
    let rows = Arc::clone(&at);
    let files = node.blocking(move |node| file_rows(node, &rows)).await?;
    Ok(Outcome::Shown(Box::new(Shown {
        name: format!("{}:{}", shown.name, at.recipe),
        message: format!(
            "variant {} of it, made when it is read ({}, rules {})",
            at.recipe,
            at.recipe.method().name(),
            at.recipe.rules()
        ),
        tensors: at.layout().len() as u64,
        dtypes: models::elements_by_dtype(at.layout()),
        size: at.size(),
        size_held: files.iter().map(|file| file.size_held).sum(),
        size_own: 0,
        collection: None,
        files,
        base: vec![shown.version.clone()],
        ..*shown
    })))
}

/// `lode lineage NAME[@REV]:VARIANT`: the variant above its version.
pub(crate) async fn lineage(node: &Node, name: &NameRev) -> Result<Outcome, Failure> {
    let (_, _, at) = named(node, name).await?;
    let base = base_name(name);
    let lineage = node
        .blocking(move |node| crate::lineage::lineage(node, &base))
        .await?;
    let Outcome::Lineage { rows } = lineage else {
        return Ok(lineage);
    };
    let mut all = vec![LineageRow {
        depth: 0,
        relation: "self".to_owned(),
        version: at.id.to_hex(),
        name: Some(format!("{}:{}", name.name, at.recipe)),
        shared: None,
    }];
    all.extend(rows.into_iter().filter_map(|row| {
        let relation = match row.relation.as_str() {
            "self" => "base".to_owned(),
            "base" | "parent" => row.relation,
            _ => return None,
        };
        Some(LineageRow {
            depth: row.depth + 1,
            relation,
            ..row
        })
    }));
    Ok(Outcome::Lineage { rows: all })
}
