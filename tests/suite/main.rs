//! Tests of the whole server: the built program, real sockets, and a real Redis that each test starts for itself.

mod support;

mod bad_input;
mod chat;
mod docs;
