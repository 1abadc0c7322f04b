//! Parts of a variant: chosen tensors, or what a slice has of them, as files that load by themselves.

use std::{path::Path, sync::Arc};

use globset::GlobSet;
use lode_store::VersionId;
use lode_tensors::{
    ByteRange, Cut, ShardIndex, Tensor,
    slice::{Slice, parse_range},
};

use super::{
    Opener, VariantAt, VariantPull,
    slice::VariantSlicer,
    write::{Done, Writer},
};
use crate::{
    command::Failure,
    pull::{
        Received,
        slice_manifest::{self, Manifest},
    },
};

const INDEX: &str = "model.safetensors.index.json";

impl VariantPull<'_> {
    /// Chosen tensors, or what a slice has of them; with a slice all that it takes to load it.
    pub(super) async fn parts(
        &self,
        opener: &Opener,
        at: &Arc<VariantAt>,
        include: Option<GlobSet>,
        tensors: Option<GlobSet>,
        slice: Slice,
    ) -> Result<(VersionId, Received), Failure> {
        let Some(to) = &self.request.to else {
            return Err(Failure::usage(
                "a part of a variant needs --to: the store keeps whole files of a variant",
            )
            .advise("name a folder with --to DIR"));
        };
        let rows = self.request.rows.as_deref().map(parse_range).transpose();
        let rows = rows.map_err(|error| Failure::usage(format!("--rows: {error}")))?;
        let slicer = match slice.is_whole() {
            true => None,
            false => Some(VariantSlicer::new(opener, &self.recipe, slice).await?),
        };
        let (publisher, model) = (self.publisher.to_string(), self.model.to_owned());
        let mut manifest = Manifest::new(publisher, model, self.base.to_hex());
        manifest.slice.clone_from(&self.request.slice);
        manifest.tensors_named.clone_from(&self.request.tensors);
        manifest.rows.clone_from(&rows);
        manifest.architecture = slicer.as_ref().map(|slicer| slicer.architecture.clone());
        let writer = Writer {
            node: self.node.clone(),
            opener: opener.clone(),
            at: Arc::clone(at),
            folder: Path::new(to).into(),
            force: self.request.force,
            events: self.events.clone(),
        };
        let mut received = Received {
            size_full: at.size(),
            ..Received::default()
        };
        let (with_tensors, others) = at.split();
        // Everything is chosen before anything is written: a slice that cannot be cut leaves nothing half done.
        let (mut names, mut parts) = (Vec::<&str>::new(), Vec::new());
        let (mut same, mut index) = (Vec::new(), None);
        for file in with_tensors {
            let path = &at.files[file].path;
            let mut choose = |tensor: &Tensor| -> Result<Option<Cut>, Failure> {
                let named = tensors.as_ref();
                if !named.is_none_or(|named| named.is_match(&tensor.name)) {
                    return Ok(None);
                }
                let cut = match &slicer {
                    Some(slicer) => slicer.cut(tensor)?,
                    None => Some(rows.clone().map_or(Cut::Whole, Cut::rows)),
                };
                if let Some(cut) = &cut {
                    manifest.add(path, tensor, cut);
                }
                Ok(cut)
            };
            if let Some(part) = writer.tensors(file, &mut choose).await? {
                manifest.add_bytes(part.len, at.files[file].len);
                received.size += part.len;
                names.push(path);
                parts.push(part);
            }
        }
        if parts.is_empty() {
            return Err(Failure::not_found("no tensor of the variant is chosen")
                .advise("`lode tensors NAME:VARIANT` lists them; put globs in quotes"));
        }
        let beside = |file: &usize| match &include {
            Some(include) => include.is_match(&at.files[*file].path),
            None => slicer.is_some(),
        };
        for file in others.into_iter().filter(beside) {
            received.size += at.files[file].len;
            names.push(&at.files[file].path);
            match at.files[file].made() {
                None => same.extend(&at.files[file].sources),
                Some(_) if at.files[file].path == INDEX => index = Some(file),
                Some(_) => parts.push(writer.whole(file)),
            }
        }
        if slicer.is_some() {
            names.push(slice_manifest::NAME);
        }
        received.path = Some(match &names[..] {
            [one] => Path::new(to).join(one).display().to_string(),
            _ => to.clone(),
        });
        received.files = names.len() as u64;
        if self.request.dry_run {
            return Ok((self.base, received));
        }
        let fetched_before = self.node.fetcher().figures().bytes;
        let mut done = Done {
            bytes: 0,
            total: parts.iter().map(|part| part.len).sum(),
        };
        for part in parts {
            writer.write(part, &mut done).await?;
        }
        if let Some(file) = index {
            let reader = Arc::new(opener.reader(at, file).await?);
            let (start, end) = (0, reader.len());
            let index = reader.make(ByteRange { start, end }).await?;
            let index = ShardIndex::parse(&index)
                .map_err(|error| Failure::failed(format!("{INDEX}: {error}")))?;
            let part = index.subset(|tensor| manifest.has(tensor), manifest.size());
            writer.bytes(INDEX, part).await?;
        }
        if slicer.is_some() {
            writer
                .bytes(slice_manifest::NAME, manifest.encode())
                .await?;
        }
        received.fetched = self.node.fetcher().figures().bytes - fetched_before;
        if !same.is_empty() {
            received.add(self.base_files(&same, Some(to)).await?);
        }
        Ok((self.base, received))
    }
}
