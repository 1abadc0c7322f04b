//! Dropping what nobody came back for.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{UploadError, Uploads, limits, lock, staged};

impl Uploads {
    /// Drops what has expired, if that was not looked for a moment ago. What fails is tried again later.
    pub(super) fn sweep_sometimes(&self) {
        {
            let mut swept = lock(&self.state().swept);
            if swept.is_some_and(|at| at.elapsed() < limits::SWEEP_EVERY) {
                return;
            }
            *swept = Some(Instant::now());
        }
        if let Err(error) = self.sweep(SystemTime::now()) {
            tracing::warn!(%error, "uploads that have expired stay");
        }
    }

    /// Drops what has expired at `now`.
    pub(super) fn sweep(&self, now: SystemTime) -> Result<(), UploadError> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs());
        let rows = self.node.store().local_prefix(staged::PREFIX)?;
        let expired = |value: &[u8]| {
            staged::parse(value)
                .is_none_or(|(time, _)| time + limits::STAGED_AGE_MAX.as_secs() < now)
        };
        let keys: Vec<String> = rows
            .into_iter()
            .filter(|(_, value)| expired(value))
            .map(|(key, _)| key)
            .collect();
        self.unstage_keys(&keys)?;
        self.sweep_parts();
        let mut xorbs = lock(&self.state().xorbs);
        xorbs.sweep().map_err(UploadError::io(&self.state().folder))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        fs::File,
        io::Write as _,
        time::{Duration, SystemTime},
    };

    use lode_store::{manifest::Kind, name::Name};

    use super::*;
    use crate::{Node, NodeOptions, upload::NewModel};

    #[test]
    fn what_nobody_came_back_for_goes_and_xorbs_are_forgotten_aloud() {
        let home = tempfile::tempdir().unwrap();
        let uploads = Node::open(home.path(), NodeOptions::default())
            .unwrap()
            .uploads();
        let name: Name = "acme/tiny".parse().unwrap();
        let (kind, public) = (Kind::Model, false);
        let new = NewModel { name, kind, public };
        uploads.create(&new).unwrap();
        let inbox = uploads.inbox(&new.name).unwrap();
        let file = uploads.node.home().join("file");
        std::fs::write(&file, b"bytes").unwrap();
        let hash = {
            let folder = tempfile::tempdir_in(home.path()).unwrap();
            std::fs::rename(&file, folder.path().join("0")).unwrap();
            let staged = uploads.stage(&inbox, folder.path(), &[None]).unwrap();
            staged[0].sha256
        };
        let mut xorb = uploads.begin_xorb().unwrap();
        xorb.add(b"chunk").unwrap();
        uploads.finish_xorb(&inbox, &[1; 32], xorb).unwrap();
        let epoch = uploads.epoch().unwrap();
        let soon = SystemTime::now() + limits::STAGED_AGE_MAX - Duration::from_secs(60);
        uploads.sweep(soon).unwrap();
        assert!(uploads.has(&inbox, &hash).unwrap());
        assert!(uploads.has_xorb(&inbox, &[1; 32]));
        assert_eq!(uploads.epoch().unwrap(), epoch);

        let late = SystemTime::now() + limits::STAGED_AGE_MAX + Duration::from_secs(60);
        let old = SystemTime::now() - limits::STAGED_AGE_MAX - Duration::from_secs(60);
        let waiting = home.path().join("uploads/xorbs");
        let waiting = waiting.join(inbox.id().to_string()).join("01".repeat(32));
        let waiting = File::options().write(true).open(waiting).unwrap();
        waiting.set_modified(old).unwrap();
        uploads.sweep(late).unwrap();
        assert!(!uploads.has(&inbox, &hash).unwrap());
        assert!(!uploads.has_xorb(&inbox, &[1; 32]));
        assert_ne!(uploads.epoch().unwrap(), epoch);
    }

    #[test]
    fn a_waiting_xorb_does_not_outlive_the_boot_that_it_came_in() {
        let home = tempfile::tempdir().unwrap();
        let open = || Node::open(home.path(), NodeOptions::default()).unwrap();
        let inbox = crate::upload::Inbox::new(lode_store::PublisherId::from_bytes([3; 32]), "m");
        let node = open();
        let uploads = node.uploads();
        let mut xorb = uploads.begin_xorb().unwrap();
        xorb.add(b"chunk").unwrap();
        uploads.finish_xorb(&inbox, &[1; 32], xorb).unwrap();
        let epoch = uploads.epoch().unwrap();
        drop((uploads, node));
        let path = home.path().join("uploads/epoch");
        let mut other = File::create(&path).unwrap();
        write!(other, "{epoch:016x}\nanother boot\n").unwrap();
        let uploads = open().uploads();
        assert!(!uploads.has_xorb(&inbox, &[1; 32]));
        assert_ne!(uploads.epoch().unwrap(), epoch);
    }
}
