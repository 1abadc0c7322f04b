//! The list of tags: branches and tags, and the variants of what they name.

use std::collections::{BTreeMap, BTreeSet};

use hyper::{StatusCode, header::LINK};
use lode_node::variants::{self, Recipe};
use lode_store::{VersionId, tree::Tree};
use serde::Serialize;

use super::{image::LATEST, name::Repository, reference::is_tag};
use crate::{
    answer::{Answer, Problem, json},
    file::{ascii, encode_path},
    hub::repo::{VARIANT_SEPARATOR, head},
    limits::{OCI_TAGS_MAX, OCI_TAGS_REFS_MAX},
    reader::Reader,
    route::Request,
    target::encode_segment,
};

/// `GET /v2/{publisher}/{model}/tags/list`
pub(super) async fn list(reader: Reader, request: Request) -> Answer {
    #[derive(Serialize)]
    struct Shown<'a> {
        name: &'a str,
        tags: &'a [String],
    }
    let target = &request.target;
    let rows = match target.query("n") {
        None => OCI_TAGS_MAX,
        Some(text) => text.parse::<usize>().map_err(|_| {
            Problem::usage(format!("n is a number, not {text:?}")).code("PAGINATION_NUMBER_INVALID")
        })?,
    };
    let repository = Repository::open(&reader, &request.params).await?;
    let tags = repository.tags().await?;
    let last = target.query("last").unwrap_or_default();
    let (page, more) = page(tags, last, rows);
    let name = &repository.name;
    let mut response = json(StatusCode::OK, &Shown { name, tags: &page });
    if more && let Some(last) = page.last() {
        let (at, last) = (encode_path(name), encode_segment(last));
        let rows = rows.min(OCI_TAGS_MAX);
        let link = format!("</v2/{at}/tags/list?n={rows}&last={last}>; rel=\"next\"");
        response.headers_mut().insert(LINK, ascii(link));
    }
    Ok(response)
}

/// The tags behind `last`, at most so many and as many as a page has, and whether there are more.
fn page(tags: BTreeSet<String>, last: &str, rows: usize) -> (Vec<String>, bool) {
    let rows = rows.min(OCI_TAGS_MAX);
    let mut page: Vec<String> = tags.into_iter().filter(|tag| &tag[..] > last).collect();
    let more = page.len() > rows;
    page.truncate(rows);
    (page, more)
}

impl Repository {
    /// All tags. Variants are those of the first branches and tags whose documents are here.
    async fn tags(&self) -> Result<BTreeSet<String>, Problem> {
        let refs = self.model.refs().await?;
        let mut tags = BTreeSet::new();
        let mut made: BTreeMap<VersionId, Vec<String>> = BTreeMap::new();
        let head = head(&refs);
        if let Some(id) = head.and_then(|head| head.version) {
            self.model.complete(Some(id)).await;
            tags.insert(LATEST.to_owned());
        }
        for (at, named) in refs.iter().enumerate() {
            let Some(id) = named.version else { continue };
            tags.insert(named.name.clone());
            let is_head =
                head.is_some_and(|head| head.name == named.name && head.kind == named.kind);
            if at >= OCI_TAGS_REFS_MAX && !is_head {
                continue;
            }
            let variants = match made.get(&id) {
                Some(variants) => variants.clone(),
                None => self.made(id).await,
            };
            for variant in &variants {
                tags.insert(format!("{}{VARIANT_SEPARATOR}{variant}", named.name));
                if is_head {
                    tags.insert(variant.clone());
                }
            }
            made.insert(id, variants);
        }
        tags.retain(|tag| is_tag(tag));
        Ok(tags)
    }

    /// The names of what is made of a version that is here.
    async fn made(&self, id: VersionId) -> Vec<String> {
        let Ok(version) = self.model.version(id, Vec::new()).await else {
            return Vec::new();
        };
        let tree: &Tree = version.tree();
        let made = variants::recipes(tree).into_iter();
        let shown = made.filter(|recipe| !self.gguf || recipe.makes_gguf());
        shown.map(|recipe: Recipe| recipe.name()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_so_many_tags_whatever_is_asked_for() {
        let tags = |count: usize| (0..count).map(|at| format!("{at:05}")).collect();
        let (whole, more) = page(tags(OCI_TAGS_MAX), "", usize::MAX);
        assert_eq!((whole.len(), more), (OCI_TAGS_MAX, false));
        let (first, more) = page(tags(OCI_TAGS_MAX + 1), "", usize::MAX);
        assert_eq!((first.len(), more), (OCI_TAGS_MAX, true));
        let last = first.last().map(String::as_str).unwrap_or_default();
        let (rest, more) = page(tags(OCI_TAGS_MAX + 1), last, usize::MAX);
        assert_eq!((rest.len(), more), (1, false));
    }
}
