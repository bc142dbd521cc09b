pub mod api;
pub mod backend;
pub mod generation;
pub mod http;
pub mod telemetry;
pub mod units;
