//! Group commit: whoever finds nobody committing commits what all have handed in, as one group and one sync.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Applied, Collection, CollectionError,
    apply::{Prepared, push_operation, replay_group},
};
use crate::{
    limits::{LOG_GROUP_BYTES_MAX, LOG_SEAL_BYTES, OPERATION_POINTS_MAX, SEALED_PARTS_MAX},
    operation::{Operation, Selection},
};

/// Operations that wait to be committed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Arc<Waiting>>,
    committing: bool,
}

/// An operation that waits, and its result once there is one.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    prepared: Mutex<Option<Prepared>>,
    result: Mutex<Option<Result<Applied, CollectionError>>>,
}

impl Waiting {
    fn finish(&self, result: Result<Applied, CollectionError>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    fn take(&self) -> Option<Result<Applied, CollectionError>> {
        self.result
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Bytes that a length takes before an operation.
const LENGTH_BYTES_MAX: usize = 10;

/// How many points an operation names.
fn points_of(operation: &Operation) -> usize {
    let selected = |of: &Selection| match of {
        Selection::Ids(ids) => ids.len(),
        Selection::Filter(_) => 0,
    };
    match operation {
        Operation::Upsert(points) => points.len(),
        Operation::UpdateVectors(points) => points.len(),
        Operation::Delete(of)
        | Operation::SetPayload { of, .. }
        | Operation::OverwritePayload { of, .. }
        | Operation::DeletePayload { of, .. }
        | Operation::ClearPayload { of }
        | Operation::DeleteVectors { of, .. } => selected(of),
        Operation::CreateIndex { .. } | Operation::DeleteIndex { .. } => 0,
    }
}

impl Collection {
    pub(super) fn commit(&self, operation: Operation) -> Result<Applied, CollectionError> {
        let points = points_of(&operation);
        if points > OPERATION_POINTS_MAX {
            return Err(CollectionError::TooManyPoints { points });
        }
        // what costs time is done before anybody is waited for: encoding and checking
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        if bytes.len() + LENGTH_BYTES_MAX > LOG_GROUP_BYTES_MAX {
            return Err(CollectionError::TooLong { bytes: bytes.len() });
        }
        let prepared = Prepared::new(operation, &self.state().config)?;
        let mine = Arc::new(Waiting {
            bytes,
            prepared: Mutex::new(Some(prepared)),
            result: Mutex::new(None),
        });
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push_back(Arc::clone(&mine));
        loop {
            if let Some(result) = mine.take() {
                return result;
            }
            if queue.committing {
                queue = self
                    .committed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.committing = true;
            let group = take_group(&mut queue.waiting);
            drop(queue);
            self.commit_group(&group);
            queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.committing = false;
            self.committed.notify_all();
        }
    }

    fn commit_group(&self, group: &[Arc<Waiting>]) {
        if let Err(error) = self.try_commit_group(group) {
            for waiting in group {
                waiting.finish(Err(error.clone()));
            }
        }
    }

    /// Does what can be done of a group. An error is one of the disk: then nothing is done.
    fn try_commit_group(&self, group: &[Arc<Waiting>]) -> Result<(), CollectionError> {
        self.make_room()?;
        let mut writer = self.writer();
        let mut state = (*self.state()).clone();
        if let Some(damaged) = state.damaged.first() {
            let (segment, what) = (damaged.segment, damaged.what.clone());
            return Err(CollectionError::Damaged { segment, what });
        }
        let mut bytes = Vec::new();
        let mut results = Vec::with_capacity(group.len());
        for waiting in group {
            let prepared = waiting
                .prepared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let Some(prepared) = prepared else {
                continue;
            };
            match prepared.apply(&mut state) {
                Ok(points) => {
                    push_operation(&waiting.bytes, &mut bytes);
                    results.push((
                        waiting,
                        Ok(Applied {
                            sequence: state.sequence,
                            points,
                        }),
                    ));
                }
                Err(error) => {
                    // it may have been done in part: begin again, without it
                    state = (*self.state()).clone();
                    replay_group(&mut state, &bytes)?;
                    results.push((waiting, Err(error)));
                }
            }
        }
        if !bytes.is_empty() {
            writer.log.append(&bytes)?;
            if state.live.is_full() || writer.log.len() >= LOG_SEAL_BYTES {
                self.seal(&mut writer, &mut state);
            }
            self.publish(state);
        }
        drop(writer);
        results
            .into_iter()
            .for_each(|(waiting, result)| waiting.finish(result));
        Ok(())
    }

    /// If too many live parts wait to become segments, makes one here: memory stays bounded though nobody
    /// maintains the collection.
    fn make_room(&self) -> Result<(), CollectionError> {
        while self.state().sealed.len() >= SEALED_PARTS_MAX {
            self.flush()?;
        }
        Ok(())
    }
}

/// The operations at the front that fit into one group.
fn take_group(waiting: &mut VecDeque<Arc<Waiting>>) -> Vec<Arc<Waiting>> {
    let mut group = Vec::new();
    let mut bytes = 0;
    while let Some(next) = waiting.front() {
        bytes += next.bytes.len() + LENGTH_BYTES_MAX;
        if bytes > LOG_GROUP_BYTES_MAX && !group.is_empty() {
            break;
        }
        group.extend(waiting.pop_front());
    }
    group
}
