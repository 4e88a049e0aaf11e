#!/bin/sh
# For cargo's RUSTC_WRAPPER: compiles pgrx-pg-sys with the bindings that it carries for its documentation.
rustc=$1
shift
case " $* " in
*" --crate-name pgrx_pg_sys "*) exec "$rustc" "$@" --cfg docsrs ;;
*) exec "$rustc" "$@" ;;
esac
