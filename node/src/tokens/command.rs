//! `lode token`: makes, lists and removes tokens.

use std::sync::Arc;

use super::{NewToken, Power, Token, Tokens, models::ModelsGlob};
use crate::{
    Node,
    command::{Failure, Outcome, TokenCreate, TokenRow},
};

/// `lode token create`.
pub(crate) fn create(node: &Node, asked: &TokenCreate) -> Result<Outcome, Failure> {
    let models = asked.models.iter().map(|text| text.parse());
    let mut models: Vec<ModelsGlob> = models.collect::<Result<_, _>>()?;
    if models.is_empty() {
        models.push(ModelsGlob::all());
    }
    let (secret, token) = node.tokens().create(NewToken {
        name: asked.name.clone(),
        power: asked.scope,
        models,
        expires_seconds: asked.expires_seconds,
    })?;
    Ok(Outcome::TokenMade {
        token: secret.expose().to_owned(),
        row: row(node.tokens(), &token),
    })
}

/// `lode token ls`.
pub(crate) fn list(node: &Node) -> Outcome {
    rows(node, &node.tokens().list())
}

/// `lode token rm`: the one of this name or id, or all.
pub(crate) fn remove(node: &Node, name: Option<&str>) -> Result<Outcome, Failure> {
    let removed = match name {
        Some(name) => vec![node.tokens().remove(name)?],
        None => node.tokens().remove_all()?,
    };
    Ok(rows(node, &removed))
}

fn rows(node: &Node, tokens: &[Arc<Token>]) -> Outcome {
    let rows = tokens.iter().map(|token| row(node.tokens(), token));
    Outcome::Tokens {
        tokens: rows.collect(),
        rule: node.tokens().rule(),
    }
}

fn row(tokens: &Tokens, token: &Token) -> TokenRow {
    let models = match token.power {
        Power::Admin => vec!["*".to_owned()],
        _ => token.models.iter().map(ToString::to_string).collect(),
    };
    TokenRow {
        name: token.name.clone(),
        id: token.id.to_string(),
        scope: token.power,
        models,
        created: token.created,
        expires: token.expires,
        expired: tokens.is_expired(token),
    }
}
