//! Recipes from strangers: bytes that are read as one are the bytes that it is written as.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_quantize::Recipe;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(recipe) = Recipe::decode(bytes) {
        assert_eq!(recipe.encode(), bytes);
    }
});
