//! What addresses named a moment ago, so that many short reads of one file do not look up the same names,
//! documents and lists again and again.
//!
//! It is forgotten as soon as anything in the home changes. It is kept for the owner alone, who may read
//! everything: what others may read depends on more than the home.

use std::{sync::Arc, time::Instant};

use lode_store::{access::Caller, recent::Recent};

use crate::{
    answer::Problem,
    content::Content,
    limits::{CONTENTS_KEPT_AGE_MAX, CONTENTS_KEPT_MAX},
    reader::Reader,
    target::Target,
};

/// Contents by their addresses.
#[derive(Debug)]
pub struct Kept(Recent<Target, Arc<Known>>);

#[derive(Debug)]
struct Known {
    content: Content,
    since: Instant,
}

impl Default for Kept {
    fn default() -> Self {
        Self(Recent::new(CONTENTS_KEPT_MAX))
    }
}

impl Reader {
    /// What `target` names: as it is remembered, or as `open` finds it.
    ///
    /// # Errors
    /// Those of `open`.
    pub async fn content(
        &self,
        target: &Target,
        open: impl Future<Output = Result<Content, Problem>>,
    ) -> Result<Content, Problem> {
        if !matches!(self.caller(), Caller::Owner) {
            return open.await;
        }
        let (kept, as_of) = (&self.kept().0, self.reads().store().changes());
        if let Some(known) = kept.get(target, as_of)
            && known.since.elapsed() < CONTENTS_KEPT_AGE_MAX
            && let Some(content) = known.content.again()
        {
            return Ok(content);
        }
        let content = open.await?;
        if let Some(again) = content.again() {
            let known = Known {
                content: again,
                since: Instant::now(),
            };
            kept.put(target.clone(), Arc::new(known), 1, as_of);
        }
        Ok(content)
    }
}
