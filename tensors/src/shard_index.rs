//! `*.safetensors.index.json`: which shard of a checkpoint holds which tensor.
//!
//! Shards lie beside the index: their names are plain file names, never paths.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::safetensors::Name;
use crate::{Header, limits};

/// A parsed shard index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardIndex {
    /// Names of shards, sorted.
    shards: Vec<String>,
    /// Tensor name to position in `shards`.
    tensors: BTreeMap<String, u32>,
    total_size: Option<u64>,
}

/// Why an index could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexParseError {
    /// Longer than [`limits::INDEX_BYTES_MAX`].
    #[error("the shard index has {0} bytes, more than {max}", max = limits::INDEX_BYTES_MAX)]
    TooLong(usize),
    /// Not the JSON that an index is.
    #[error("the shard index is not valid: {0}")]
    Json(String),
}

/// How an index and its shards contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A shard that the index names is not there.
    #[error("the index names shard {shard:?}, which is not there ({tensors} tensors)")]
    MissingShard {
        /// The shard.
        shard: String,
        /// How many tensors it should hold.
        tensors: usize,
    },
    /// A tensor is not in the shard that the index names.
    #[error("the index puts tensor {tensor:?} in shard {shard:?}, which does not hold it{}",
        elsewhere.as_ref().map(|at| format!(" ({at:?} does)")).unwrap_or_default())]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// Where the index says it is.
        shard: String,
        /// A shard that does hold it.
        elsewhere: Option<String>,
    },
}

impl ShardIndex {
    /// Reads an index from the bytes of its file.
    ///
    /// # Errors
    /// When it is too long, not JSON, has no `weight_map`, names a tensor twice, or names a shard by
    /// anything but a plain file name.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexParseError> {
        if bytes.len() > limits::INDEX_BYTES_MAX {
            return Err(IndexParseError::TooLong(bytes.len()));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let index = deserializer
            .deserialize_map(IndexVisitor)
            .and_then(|index| deserializer.end().map(|()| index));
        index.map_err(|error| IndexParseError::Json(error.to_string()))
    }

    /// The shards that it names, sorted.
    pub fn shards(&self) -> &[String] {
        &self.shards
    }

    /// Tensors with the shard of each, by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.tensors
            .iter()
            .map(|(name, &shard)| (name.as_str(), self.shard_name(shard)))
    }

    /// The shard that holds a tensor.
    pub fn shard_of(&self, tensor: &str) -> Option<&str> {
        self.tensors
            .get(tensor)
            .map(|&shard| self.shard_name(shard))
    }

    /// `metadata.total_size`, in bytes. Checkpoints in the wild often have it wrong: not checked.
    pub fn total_size(&self) -> Option<u64> {
        self.total_size
    }

    /// Holds the index against the headers of the shards, by file name. Other files may be among them.
    ///
    /// # Errors
    /// The first contradiction, by tensor name; missing shards before missing tensors.
    pub fn check(&self, shards: &BTreeMap<String, Header>) -> Result<(), IndexError> {
        for (position, shard) in self.shards.iter().enumerate() {
            if !shards.contains_key(shard) {
                let tensors = self
                    .tensors
                    .values()
                    .filter(|&&at| at as usize == position)
                    .count();
                return Err(IndexError::MissingShard {
                    shard: shard.clone(),
                    tensors,
                });
            }
        }
        let mut held = std::collections::HashSet::new();
        for (position, shard) in (0_u32..).zip(&self.shards) {
            held.extend(
                shards[shard]
                    .tensors
                    .iter()
                    .map(|t| (position, t.name.as_str())),
            );
        }
        for (tensor, &at) in &self.tensors {
            if !held.contains(&(at, tensor.as_str())) {
                let elsewhere = shards
                    .iter()
                    .find(|(_, header)| header.tensor(tensor).is_some());
                return Err(IndexError::MissingTensor {
                    tensor: tensor.clone(),
                    shard: self.shard_name(at).to_owned(),
                    elsewhere: elsewhere.map(|(name, _)| name.clone()),
                });
            }
        }
        Ok(())
    }

    /// Tensors that a named shard holds but the index does not put there, as (shard, tensor). Loaders
    /// skip them; worth a warning.
    pub fn unlisted<'s>(
        &'s self,
        shards: &'s BTreeMap<String, Header>,
    ) -> impl Iterator<Item = (&'s str, &'s str)> {
        self.shards
            .iter()
            .filter_map(|shard| shards.get(shard).map(|header| (shard.as_str(), header)))
            .flat_map(|(shard, header)| {
                header.tensors.iter().map(move |t| (shard, t.name.as_str()))
            })
            .filter(|&(shard, tensor)| self.shard_of(tensor) != Some(shard))
    }

    /// The index of the chosen tensors alone, as the bytes of a file: `total_size` is theirs as the
    /// caller counted it.
    pub fn subset(&self, mut chosen: impl FnMut(&str) -> bool, total_size: u64) -> Vec<u8> {
        let weight_map: serde_json::Map<_, _> = self
            .tensors()
            .filter(|(tensor, _)| chosen(tensor))
            .map(|(tensor, shard)| (tensor.to_owned(), shard.into()))
            .collect();
        let index = serde_json::json!({
            "metadata": { "total_size": total_size },
            "weight_map": weight_map,
        });
        let mut bytes = serde_json::to_vec_pretty(&index).expect("maps of text are valid JSON");
        bytes.push(b'\n');
        bytes
    }

    fn shard_name(&self, position: u32) -> &str {
        &self.shards[position as usize]
    }
}

/// Whether a name can only mean a file beside the index.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= limits::SHARD_NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', '\0', ':'])
}

struct IndexVisitor;

impl<'de> Visitor<'de> for IndexVisitor {
    type Value = ShardIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ShardIndex, A::Error> {
        let (mut weights, mut total_size) = (None, None);
        while let Some(key) = map.next_key_seed(Name)? {
            match key.as_str() {
                "weight_map" => {
                    if weights.replace(map.next_value_seed(WeightMap)?).is_some() {
                        return Err(de::Error::duplicate_field("weight_map"));
                    }
                }
                "metadata" => total_size = map.next_value_seed(IndexMetadata)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let weights = weights.ok_or_else(|| de::Error::missing_field("weight_map"))?;
        Ok(sort_shards(weights, total_size))
    }
}

/// Renumbers the shards in the order of their names.
fn sort_shards(weights: Weights, total_size: Option<u64>) -> ShardIndex {
    let mut shards: Vec<_> = weights.shards.into_iter().collect();
    shards.sort_unstable();
    let mut renumbered = vec![0_u32; shards.len()];
    for (new, (_, old)) in (0_u32..).zip(&shards) {
        renumbered[*old as usize] = new;
    }
    let mut tensors = weights.tensors;
    for at in tensors.values_mut() {
        *at = renumbered[*at as usize];
    }
    let shards = shards.into_iter().map(|(name, _)| name).collect();
    ShardIndex {
        shards,
        tensors,
        total_size,
    }
}

/// `metadata` in any shape, for its `total_size` if it is a whole number.
struct IndexMetadata;

impl<'de> DeserializeSeed<'de> for IndexMetadata {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IndexMetadata {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut total_size = None;
        while let Some(key) = map.next_key_seed(Name)? {
            if key == "total_size" {
                total_size = map.next_value_seed(WholeNumber)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(total_size)
    }
}

/// A number, if it is whole: some tools write `1234.0`.
struct WholeNumber;

impl<'de> DeserializeSeed<'de> for WholeNumber {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let number: serde_json::Number = de::Deserialize::deserialize(deserializer)?;
        Ok(number.as_u64())
    }
}

#[derive(Default)]
struct Weights {
    shards: BTreeMap<String, u32>,
    tensors: BTreeMap<String, u32>,
}

struct WeightMap;

impl<'de> DeserializeSeed<'de> for WeightMap {
    type Value = Weights;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap {
    type Value = Weights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensor names to shard names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Weights, A::Error> {
        let mut weights = Weights::default();
        while let Some(tensor) = map.next_key_seed(Name)? {
            let shard: Cow<'de, str> = map.next_value()?;
            if !is_plain(&shard) {
                return Err(de::Error::custom(format_args!(
                    "shard name {:?} of tensor {tensor:?} is no plain file name",
                    shard.chars().take(80).collect::<String>(),
                )));
            }
            if weights.tensors.len() == limits::INDEX_ENTRIES_MAX {
                return Err(de::Error::custom("too many tensors"));
            }
            let next = u32::try_from(weights.shards.len()).expect("fewer shards than entries");
            let at = match weights.shards.get(shard.as_ref()) {
                Some(&at) => at,
                None => {
                    weights.shards.insert(shard.into_owned(), next);
                    next
                }
            };
            if weights.tensors.contains_key(&tensor) {
                return Err(de::Error::custom(format_args!(
                    "tensor {tensor:?} is named twice"
                )));
            }
            weights.tensors.insert(tensor, at);
        }
        Ok(weights)
    }
}
