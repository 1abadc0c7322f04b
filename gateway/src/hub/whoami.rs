//! Whose token a request carries.

use hyper::{StatusCode, header::AUTHORIZATION};
use lode_node::{command::FailureKind, tokens::Power};
use lode_store::access::Caller;
use serde_json::json;

use crate::{
    answer::{self, Answer, Problem},
    reader::Reader,
    route::Request,
};

/// `GET /api/whoami-v2`
pub(super) async fn whoami(reader: Reader, request: Request) -> Answer {
    if matches!(reader.caller(), Caller::Anonymous) || !request.headers.contains_key(AUTHORIZATION)
    {
        let message = "Invalid username or password.";
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            FailureKind::Refused,
            message,
        ));
    }
    // Until there is a token, whatever is sent is the owner's.
    let (name, role) = reader.token().map_or(("owner", "write"), |token| {
        let role = if token.power == Power::Read {
            "read"
        } else {
            "write"
        };
        (token.name.as_str(), role)
    });
    let token = json!({ "displayName": name, "role": role });
    let shown = json!({
        "type": "user",
        "name": name,
        "fullname": name,
        "isPro": false,
        "orgs": [],
        "auth": { "type": "access_token", "accessToken": token },
    });
    Ok(answer::json(StatusCode::OK, &shown))
}
