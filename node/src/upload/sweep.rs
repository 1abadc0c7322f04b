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
