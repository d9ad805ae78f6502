"""Sign-in at an OpenID Connect provider."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

from aiohttp import ClientSession, DummyCookieJar

from service.adapters.oidc.bearer_token import OidcBearerTokens
from service.adapters.oidc.provider import OidcProvider
from service.dashboard import paths
from service.domain.access import WorkspaceAccess
from service.domain.identity import IdentityProvider
from service.domain.people import People
from service.domain.provisioning import Provisioner
from service.domain.sign_in import SignIn
from service.gateway.sign_in.portal import CALLBACK, SIGNED_OUT
from service.settings import PREFIX, Settings, SettingsError
from service.wiring.core import Core


@asynccontextmanager
async def open_oidc(config: Settings) -> AsyncIterator[IdentityProvider | None]:
    """The configured provider; None without one, or in a role without a gateway. Raises SettingsError."""
    if not config.oidc_issuer or not config.role.serves_gateway:
        yield None
        return
    wanted = config.user_rule.claims
    async with _opened(config, config.domain_origin + CALLBACK, config.domain_origin + SIGNED_OUT, wanted) as provider:
        yield provider


@asynccontextmanager
async def open_dashboard_oidc(config: Settings) -> AsyncIterator[IdentityProvider | None]:
    """The same provider for the dashboard; None where nobody can sign in there. Raises SettingsError."""
    if not config.oidc_issuer or not config.dashboard_url or not config.serves_dashboard:
        yield None
        return
    wanted = config.person_rule.claims
    async with _opened(config, config.dashboard_url + paths.CALLBACK, config.dashboard_url, wanted) as provider:
        yield provider


@asynccontextmanager
async def _opened(
    config: Settings, redirect_uri: str, signed_out_uri: str, wanted: Collection[str]
) -> AsyncIterator[IdentityProvider]:
    secret = _secret(config)
    async with ClientSession(cookie_jar=DummyCookieJar()) as http:
        provider = OidcProvider(
            http,
            issuer=config.oidc_issuer,
            client_id=config.oidc_client_id,
            secret=secret,
            scopes=config.oidc_scopes,
            redirect_uri=redirect_uri,
            signed_out_uri=signed_out_uri,
            wanted=sorted(wanted),
        )
        try:
            yield provider
        finally:
            await provider.close()


def _secret(config: Settings) -> str:
    if config.oidc_client_secret_file is None:
        return config.oidc_client_secret.get_secret_value()
    try:
        return config.oidc_client_secret_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}OIDC_CLIENT_SECRET_FILE cannot be read: {type(error).__name__}") from None


@asynccontextmanager
async def open_people(config: Settings) -> AsyncIterator[People | None]:
    """The people who may call the API; None without tokens, or in a role without the API."""
    if not config.api_oidc_audience or not config.role.serves_api:
        yield None
        return
    async with ClientSession(cookie_jar=DummyCookieJar()) as http:
        tokens = OidcBearerTokens(http, issuer=config.token_issuer, audience=config.api_oidc_audience)
        try:
            yield People(tokens, config.person_rule)
        finally:
            await tokens.close()


def build_sign_in(
    core: Core, provider: IdentityProvider, access: WorkspaceAccess, provisioner: Provisioner | None
) -> SignIn:
    """`provisioner` is None in a process that runs no helm: users without a session then get none."""
    config = core.config
    return SignIn(
        provider=provider,
        rule=config.user_rule,
        keyring=access.keyring,
        access=access,
        tickets=core.redis.tickets,
        queries=core.queries,
        cache=core.kubernetes.cache,
        provisioner=provisioner if config.oidc_create else None,
        stay=timedelta(seconds=config.gateway_stay),
    )
