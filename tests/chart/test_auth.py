"""Tokens and limits: where the keys come from, and who clients are behind proxies."""

import json

import pytest

from conftest import refusal, render


def test_without_keys_nothing_is_said_of_tokens():
    names = [name for name in render().env if "JWT" in name or "JWKS" in name or "ANONYMOUS" in name]
    assert names == []


def test_keys_are_files_so_that_servers_see_them_change():
    objects = render(persona="tokens")
    env, server = objects.env, objects.server
    assert env["ROOMCAST_JWT_SECRET_FILE"] == "/etc/roomcast-tokens/secret"
    assert env["ROOMCAST_JWT_PUBLIC_KEY_FILE"] == "/etc/roomcast-tokens/public-keys.pem"
    assert env["ROOMCAST_JWKS"] == "https://id.example.com/.well-known/jwks.json"
    assert (env["ROOMCAST_JWT_AUDIENCE"], env["ROOMCAST_JWT_ISSUER"]) == ("chat", "https://id.example.com/")
    assert json.loads(env["ROOMCAST_ANONYMOUS"])["rooms"] == {"public:*": ["join", "history"]}
    (mount,) = [mount for mount in server["volumeMounts"] if mount["name"] == "tokens"]
    # With subPath, a changed Secret would not reach the file.
    assert mount == {"name": "tokens", "mountPath": "/etc/roomcast-tokens", "readOnly": True}
    (volume,) = [volume for volume in objects.one("Deployment")["spec"]["template"]["spec"]["volumes"] if volume["name"] == "tokens"]
    assert volume["secret"]["secretName"] == "chat-keys"
    assert [item["key"] for item in volume["secret"]["items"]] == ["secret", "public-keys.pem"]


@pytest.mark.parametrize(
    ("url", "port"), [("https://id.example.com/jwks", 443), ("http://keycloak/jwks", 80), ("https://id.example.com:8443/jwks", 8443)]
)
def test_servers_reach_the_provider_of_keys(url, port):
    policy = render({"auth.jwksUrl": url, "auth.audience": "chat"}).one("NetworkPolicy", "roomcast")
    ports = [rule["port"] for egress in policy["spec"]["egress"] for rule in egress["ports"]]
    assert port in ports


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"auth.secretKey": "secret", "auth.audience": "chat"}, "Set auth.existingSecret"),
        ({"auth.existingSecret": "keys"}, "no key in it"),
        ({"auth.existingSecret": "keys", "auth.secretKey": "secret"}, "Set auth.audience"),
        ({"auth.audience": "chat"}, "no key to check them with"),
        ({"auth.existingSecret": "k", "auth.jwksKey": "j", "auth.jwksUrl": "https://x/", "auth.audience": "c"}, "both set"),
        ({"auth.jwksUrl": "id.example.com"}, "jwksUrl"),
        ({"auth.anonymous.rooms": {"lobby": ["publish"]}}, "must be one of 'join'"),
        ({"config": {"ROOMCAST_JWT_SECRET": "x"}}, "set auth.existingSecret"),
        ({"config": {"ROOMCAST_MESSAGES_PER_USER": "20"}}, "ROOMCAST_MESSAGES_PER_USER"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_to_mend_it(values, text):
    assert text in refusal(values)


def test_tokens_without_an_audience_are_taken_if_asked_for():
    values = {"auth.jwksUrl": "https://x/", "config": {"ROOMCAST_JWT_REQUIRED_CLAIMS": "exp"}}
    assert "ROOMCAST_JWT_AUDIENCE" not in render(values).env


def test_behind_the_ingress_clients_are_told_apart():
    assert render().env["ROOMCAST_TRUSTED_PROXIES"] == "private"
    assert render({"trustedProxies": "10.1.0.0/16"}).env["ROOMCAST_TRUSTED_PROXIES"] == "10.1.0.0/16"
    assert "ROOMCAST_TRUSTED_PROXIES" not in render({"trustedProxies": ""}).env


def test_a_test_that_needs_a_token_is_left_out():
    pods = [pod["metadata"]["name"] for pod in render(persona="tokens").all("Pod")]
    assert "roomcast-test-upgrade" in pods and "roomcast-test-across" not in pods
    assert "roomcast-test-across" in [pod["metadata"]["name"] for pod in render().all("Pod")]
