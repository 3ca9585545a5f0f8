//! Breaks a roomcast cluster in every way it must survive, and judges what its clients saw.

#![allow(unreachable_pub, reason = "a program has no outside")]

mod judge;
mod member;
mod record;
mod verdict;

fn main() {}
