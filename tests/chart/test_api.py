"""The HTTP API for back ends: its address, its keys, and who may reach it."""

import pytest

from conftest import refusal, render


def test_without_it_nothing_is_said_of_the_api():
    objects = render()
    assert [name for name in objects.env if "API" in name] == []
    assert [port["name"] for port in objects.server["ports"]] == ["http", "probes"]
    assert "roomcast-api" not in [service["metadata"]["name"] for service in objects.all("Service")]


def test_keys_are_a_file_so_that_servers_see_them_change():
    objects = render(persona="tokens")
    env, server = objects.env, objects.server
    assert (env["ROOMCAST_API_LISTEN"], env["ROOMCAST_API_KEYS_FILE"]) == ("0.0.0.0:8082", "/etc/roomcast-api/keys")
    (mount,) = [mount for mount in server["volumeMounts"] if mount["name"] == "api"]
    # With subPath, a changed Secret would not reach the file.
    assert mount == {"name": "api", "mountPath": "/etc/roomcast-api", "readOnly": True}
    (volume,) = [volume for volume in objects.one("Deployment")["spec"]["template"]["spec"]["volumes"] if volume["name"] == "api"]
    assert volume["secret"] == {"secretName": "chat-api", "items": [{"key": "keys", "path": "keys"}]}


def test_it_has_a_service_of_its_own_that_leads_nobody_in_from_outside():
    objects = render({"service.type": "LoadBalancer", "ingress.enabled": True}, persona="tokens")
    service = objects.one("Service", "roomcast-api")["spec"]
    assert service["type"] == "ClusterIP"
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(8082, "api")]
    assert {"name": "api", "containerPort": 8082, "protocol": "TCP"} in objects.server["ports"]
    assert "-api" not in str(objects.one("Ingress", "roomcast")["spec"])


def test_only_those_reach_it_who_may():
    def allowed(values, persona=None):
        policy = render(values, persona=persona).one("NetworkPolicy", "roomcast")
        (rule,) = [rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == 8082]
        return rule.get("from")

    back_end = {"podSelector": {"matchLabels": {"app": "back-end"}}}
    assert back_end in allowed({}, "tokens")
    on = {"api.enabled": True, "api.existingSecret": "keys"}
    assert allowed(on) is None
    assert back_end in allowed({**on, "networkPolicy.ingressFrom": [back_end]})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"api.enabled": True}, "Set api.existingSecret"),
        ({"api.existingSecret": "keys"}, "Set api.enabled=true"),
        ({"config": {"ROOMCAST_API_LISTEN": "0.0.0.0:9000"}}, "set api.enabled"),
        ({"config": {"ROOMCAST_API_KEYS": "a:read:x"}}, "set api.existingSecret"),
        ({"extraEnv": [{"name": "ROOMCAST_API_LISTEN", "value": "0.0.0.0:1"}]}, "must not set ROOMCAST_API_LISTEN"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_to_mend_it(values, text):
    assert text in refusal(values)


def test_with_tokens_alone_the_api_needs_no_keys():
    values = {"api.enabled": True, "auth.jwksUrl": "https://id.example.com/jwks", "auth.audience": "chat"}
    assert "ROOMCAST_API_KEYS_FILE" not in render(values).env
