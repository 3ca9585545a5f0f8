//! Tests of the whole server: the built program, real sockets, and a real Redis that each test starts for itself.

mod support;

mod architecture;
mod chat;
mod foreign;
mod health;
mod metrics;
mod observability;
mod order;
mod outage;
mod settings;
mod shutdown;
mod slow;
mod subscriptions;
mod tracing;
