"""Generated from proto/livecfg/hub/v1/hub.proto by proto/generate.sh; checked in, compared in CI."""
