//! The native dialect: `/lode/v1`, and what every port answers.

mod about;

use crate::{
    control,
    route::Route,
    scope::{Anyone, Control, Operate},
};

/// All routes of the native dialect.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", "Says what answers here")
            .scope::<Anyone>()
            .to(about::root),
        Route::get("/healthz", "Says that the process lives")
            .scope::<Anyone>()
            .to(about::health),
        Route::get("/readyz", "Says whether requests are welcome")
            .scope::<Anyone>()
            .to(about::ready),
        Route::get("/metrics", "Figures for Prometheus")
            .scope::<Operate>()
            .to(about::metrics),
        Route::get("/lode/v1/openapi.json", "This document")
            .scope::<Anyone>()
            .to(about::openapi),
        Route::post(
            "/lode/v1/commands",
            "Carries out one command of the program",
        )
        .scope::<Control>()
        .to(control::commands),
    ]
}
