//! An identity log: all of its records that are known, and the chain of them that is in force.
//!
//! Records form a tree: each names the one before it. Where a record has several followers, the chain
//! goes on with the one whose branch has the higher right: a branch in which the committed keys took
//! over, before one in which the identity's keys signed, before one in which only delegates did. If
//! the highest right is on several branches, the chain ends there, until a rotation decides: the only
//! record that a thief of today's keys cannot make. All of it follows from the set of records alone.

use std::collections::{BTreeMap, HashMap};

use super::chain::{Chain, Rank};
use super::{Delegation, IdentityError, IdentityOp, IdentityRecord, KeySet, Operation, Standing};
use crate::limits::{IDENTITY_DELEGATE_RECORDS_MAX, IDENTITY_RECORDS_MAX};
use crate::signature::{Context, KeyId, Signed};
use crate::{PublisherId, RecordId};

#[derive(Debug, Clone)]
struct Node {
    signed: Signed,
    record: IdentityRecord,
    rank: Rank,
    followers: Vec<RecordId>,
}

/// The records of one publisher's identity.
#[derive(Debug, Clone)]
pub struct IdentityLog {
    publisher: PublisherId,
    nodes: HashMap<RecordId, Node>,
    /// The records in force, from the first.
    chain: Vec<RecordId>,
    /// Their places.
    places: HashMap<RecordId, u64>,
    state: Chain,
}

/// What became of a record that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was known. `signatures` says whether it brought a new signature, which is kept.
    Known {
        /// Whether there is something new to be kept.
        signatures: bool,
    },
    /// It is in force, after those that were.
    InForce,
    /// It is in force, and others that were are not any more.
    Replaced,
    /// It is kept as proof and not in force: another record follows the same one.
    Rival,
}

impl IdentityLog {
    /// Starts a log from its first record.
    ///
    /// # Errors
    /// When it is not one that creates an identity, or is not signed by the keys that it names.
    pub fn start(first: Signed) -> Result<Self, IdentityError> {
        let record = IdentityRecord::decode(first.body())?;
        if !matches!(record.op, IdentityOp::Create { .. }) {
            return Err(IdentityError::NotACreation);
        }
        let signers = first.verified(Context::Identity);
        let mut state = Chain::default();
        let rank = state.check(&record, &signers)?;
        state.push(&record);
        let id = first.id();
        let node = Node {
            signed: first,
            record,
            rank,
            followers: Vec::new(),
        };
        Ok(Self {
            publisher: PublisherId::from_bytes(*id.as_bytes()),
            nodes: HashMap::from([(id, node)]),
            chain: vec![id],
            places: HashMap::from([(id, 0)]),
            state,
        })
    }

    /// Puts the log of `publisher` together from records in any order. Answers with it the records
    /// that were not accepted.
    ///
    /// # Errors
    /// When the first record is missing or another publisher's.
    pub fn from_records(
        publisher: PublisherId,
        records: impl IntoIterator<Item = Signed>,
    ) -> Result<(Self, Vec<(Signed, IdentityError)>), IdentityError> {
        let mut refused = Vec::new();
        let mut by_seq: BTreeMap<u64, Vec<Signed>> = BTreeMap::new();
        for signed in records {
            match IdentityRecord::decode(signed.body()) {
                Ok(record) => by_seq.entry(record.seq).or_default().push(signed),
                Err(err) => refused.push((signed, err)),
            }
        }
        let mut firsts = by_seq.remove(&0).unwrap_or_default();
        let own = |first: &Signed| *first.id().as_bytes() == *publisher.as_bytes();
        let Some(at) = firsts.iter().position(own) else {
            return Err(match firsts.first() {
                Some(first) => IdentityError::WrongPublisher {
                    expected: publisher,
                    found: PublisherId::from_bytes(*first.id().as_bytes()),
                },
                None => IdentityError::NotACreation,
            });
        };
        let mut log = Self::start(firsts.swap_remove(at))?;
        for signed in firsts.into_iter().chain(by_seq.into_values().flatten()) {
            if let Err(err) = log.apply(signed.clone()) {
                refused.push((signed, err));
            }
        }
        Ok((log, refused))
    }

    /// Takes in a record. What is answered with `Ok` is kept, and belongs in the record log; all else
    /// leaves the log as it was.
    ///
    /// # Errors
    /// When it is malformed, not signed by those who may, or follows a record that is not here.
    pub fn apply(&mut self, signed: Signed) -> Result<Applied, IdentityError> {
        let id = signed.id();
        if self.nodes.contains_key(&id) {
            let node = self.nodes.get_mut(&id).expect("looked up just now");
            let signatures = node.signed.merge(Context::Identity, &signed);
            return Ok(Applied::Known { signatures });
        }
        let record = IdentityRecord::decode(signed.body())?;
        let Some(prev) = record.prev else {
            let found = PublisherId::from_bytes(*id.as_bytes());
            return Err(IdentityError::WrongPublisher {
                expected: self.publisher,
                found,
            });
        };
        if !self.nodes.contains_key(&prev) {
            return Err(IdentityError::MissingPrevious {
                seq: record.seq,
                prev,
            });
        }
        let signers = signed.verified(Context::Identity);
        self.admit(id, prev, record, signed, &signers)
    }

    /// Takes in a record that `signers` rightly signed.
    fn admit(
        &mut self,
        id: RecordId,
        prev: RecordId,
        record: IdentityRecord,
        signed: Signed,
        signers: &[KeyId],
    ) -> Result<Applied, IdentityError> {
        let extends = prev == self.head() && self.nodes[&prev].followers.is_empty();
        let rank = if extends {
            self.state.check(&record, signers)?
        } else {
            self.replay(prev).check(&record, signers)?
        };
        self.check_room(rank)?;
        self.insert(
            id,
            prev,
            Node {
                signed,
                record,
                rank,
                followers: Vec::new(),
            },
        );
        Ok(self.follow(id, extends))
    }

    fn insert(&mut self, id: RecordId, prev: RecordId, node: Node) {
        self.nodes
            .get_mut(&prev)
            .expect("looked up before")
            .followers
            .push(id);
        self.nodes.insert(id, node);
    }

    /// Refuses records over the limits. A rotation always has room: its keys were committed to.
    fn check_room(&self, rank: Rank) -> Result<(), IdentityError> {
        let max = match rank {
            Rank::Delegate => IDENTITY_DELEGATE_RECORDS_MAX,
            Rank::Keys => IDENTITY_RECORDS_MAX,
            Rank::Rotation => return Ok(()),
        };
        let count = self.nodes.values().filter(|node| node.rank == rank).count();
        if count < max {
            Ok(())
        } else {
            Err(IdentityError::TooManyRecords { max })
        }
    }

    /// Brings the chain up to date after `id` came.
    fn follow(&mut self, id: RecordId, extends: bool) -> Applied {
        if extends {
            let node = &self.nodes[&id];
            self.state.push(&node.record);
            self.places.insert(id, self.chain.len() as u64);
            self.chain.push(id);
            return Applied::InForce;
        }
        let before = std::mem::take(&mut self.chain);
        self.chain = self.strongest_chain();
        self.places = self
            .chain
            .iter()
            .zip(0..)
            .map(|(id, place)| (*id, place))
            .collect();
        let mut state = Chain::default();
        for id in &self.chain {
            let node = &self.nodes[id];
            state.push(&node.record);
        }
        self.state = state;
        match self.places.contains_key(&id) {
            true if self.chain.starts_with(&before) => Applied::InForce,
            true => Applied::Replaced,
            false => Applied::Rival,
        }
    }

    fn strongest_chain(&self) -> Vec<RecordId> {
        let mut by_seq: Vec<_> = self.nodes.iter().collect();
        by_seq.sort_by_key(|(_, node)| std::cmp::Reverse(node.record.seq));
        let mut rank_of_branch: HashMap<RecordId, Rank> = HashMap::new();
        for (id, node) in by_seq {
            let below = node
                .followers
                .iter()
                .map(|follower| rank_of_branch[follower]);
            let rank = below.fold(node.rank, Rank::max);
            rank_of_branch.insert(*id, rank);
        }
        let mut at = RecordId::from_bytes(*self.publisher.as_bytes());
        let mut chain = vec![at];
        loop {
            let followers = &self.nodes[&at].followers;
            let Some(best) = followers.iter().map(|id| rank_of_branch[id]).max() else {
                break;
            };
            let mut strongest = followers.iter().filter(|id| rank_of_branch[*id] == best);
            let (Some(next), None) = (strongest.next(), strongest.next()) else {
                break;
            };
            at = *next;
            chain.push(at);
        }
        chain
    }

    /// The state when `head` was the last record, whether it is in force or not.
    fn replay(&self, head: RecordId) -> Chain {
        let mut path = Vec::new();
        let mut at = Some(head);
        while let Some(id) = at {
            let node = &self.nodes[&id];
            path.push(node);
            at = node.record.prev;
        }
        let mut state = Chain::default();
        for node in path.into_iter().rev() {
            state.push(&node.record);
        }
        state
    }

    /// Whose identity this is.
    pub fn publisher(&self) -> PublisherId {
        self.publisher
    }

    /// The last record in force.
    pub fn head(&self) -> RecordId {
        *self.chain.last().expect("a log has a first record")
    }

    /// How many records are in force.
    pub fn len(&self) -> u64 {
        self.state.len()
    }

    /// Never: a log has a first record.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether the record is known, in force or not.
    pub fn contains(&self, id: &RecordId) -> bool {
        self.nodes.contains_key(id)
    }

    /// The place of a record in force.
    pub fn place(&self, id: &RecordId) -> Option<u64> {
        self.places.get(id).copied()
    }

    /// The keys of today.
    pub fn keys(&self) -> &KeySet {
        self.state.keys()
    }

    /// The commitment to the keys after them.
    pub fn next_commitment(&self) -> &[u8; 32] {
        self.state.next()
    }

    /// The delegates of today, each with the delegate who delegated to it, if not the keys did.
    pub fn delegates(&self) -> impl Iterator<Item = (&Delegation, Option<KeyId>)> {
        self.state.delegates()
    }

    /// What `key` is today.
    pub fn standing(&self, key: KeyId) -> Standing {
        self.state.standing_at(key, self.len() - 1)
    }

    /// What `key` was when the record `head` was the last; nothing if that is not in force.
    pub fn standing_at(&self, key: KeyId, head: &RecordId) -> Option<Standing> {
        self.place(head)
            .map(|place| self.state.standing_at(key, place))
    }

    /// Whether `key` alone may do `op` on `model` today, at the time `now` (seconds since 1970 UTC), if
    /// one is given.
    pub fn authorises(&self, key: KeyId, op: Operation, model: &str, now: Option<u64>) -> bool {
        match self.standing(key) {
            Standing::Key { threshold } => threshold == 1,
            Standing::Delegate(given) => {
                given.has(op) && given.covers(model) && !now.is_some_and(|now| given.expired(now))
            }
            Standing::Unknown | Standing::Ended(_) => false,
        }
    }

    /// Whether `key`, with or without others, ever had a part in this identity by which it could do
    /// `op` on `model`: what a signature on an old version is checked against.
    pub fn ever_authorised(&self, key: KeyId, op: Operation, model: &str) -> bool {
        self.state.ever_authorised(key, op, model)
    }

    /// Applies a record as if `signers` had signed it.
    #[cfg(test)]
    pub(super) fn apply_unsigned(
        &mut self,
        record: IdentityRecord,
        signers: &[KeyId],
    ) -> Result<Applied, IdentityError> {
        let signed = Signed::new(Context::Identity, record.encode(), &[]);
        let prev = record.prev.expect("not the first record");
        self.admit(signed.id(), prev, record, signed, signers)
    }

    #[cfg(test)]
    pub(super) fn nodes_seq(&self, id: RecordId) -> u64 {
        self.nodes[&id].record.seq
    }

    pub(super) fn state(&self) -> &Chain {
        &self.state
    }

    /// The records in force, from the first.
    pub fn in_force(&self) -> impl Iterator<Item = (&IdentityRecord, &Signed)> {
        self.chain
            .iter()
            .map(|id| (&self.nodes[id].record, &self.nodes[id].signed))
    }

    /// All records, rivals included, each after the one that it follows: what a peer needs.
    pub fn records(&self) -> Vec<&Signed> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(id, node)| (node.record.seq, **id));
        nodes.into_iter().map(|(_, node)| &node.signed).collect()
    }

    /// The records that have several followers, and those: proof that keys were used twice.
    pub fn forks(&self) -> Vec<(RecordId, Vec<&Signed>)> {
        let forked = self
            .nodes
            .iter()
            .filter(|(_, node)| node.followers.len() > 1);
        let mut forks: Vec<_> = forked
            .map(|(id, node)| {
                let rivals = node.followers.iter().map(|id| &self.nodes[id].signed);
                (node.record.seq, *id, rivals.collect::<Vec<_>>())
            })
            .collect();
        forks.sort_by_key(|(seq, id, _)| (*seq, *id));
        forks
            .into_iter()
            .map(|(_, id, rivals)| (id, rivals))
            .collect()
    }

    /// Whether rivals of equal right follow the head, so that only a rotation can come next.
    pub fn is_stopped(&self) -> bool {
        !self.nodes[&self.head()].followers.is_empty()
    }
}
