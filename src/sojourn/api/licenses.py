"""Licenses, their features and their keys."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from sojourn.api.call import OperatorCall, operator
from sojourn.clock import SECOND
from sojourn.doctor.browser.jar import is_public_suffix
from sojourn.errors import InvalidInput
from sojourn.ledger import LicenseChange
from sojourn.license import License, LicenseStatus, Pool
from sojourn.service.keys import Permission
from sojourn.wire.bodies import (
    ChangeLicenseBody,
    CreateLicenseBody,
    Done,
    Feature,
    LicenseBody,
    Limit,
    Name,
    Page,
    PolicyBody,
    PoolBody,
    Wire,
    instant,
    optional,
    pool_body,
    rfc3339,
    seconds,
)
from sojourn.wire.paging import page_of


class LicensesQuery(Wire, frozen=True, kw_only=True):
    after: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    limit: Limit = 100
    status: LicenseStatus | UnsetType = UNSET


@operator(
    "POST",
    "/api/licenses",
    may=Permission.LICENSES_WRITE,
    status=201,
    problems=("invalid_policy", "conflict", "license_of_authority"),
)
def create_license(ask: OperatorCall, body: CreateLicenseBody) -> Done[LicenseBody]:
    """Make a license with its features.

    The answer holds the license key, this once: only its hash is kept. `allowedOrigins`: the origins whose
    pages may use it, such as `https://app.example.com`, `https://*.example.com` (each subdomain) or
    `chrome-extension://` and an extension's id. Where some are named, pages of others are refused.
    `allotmentTtl`: seconds for which relays may grant its seats without a word of this server, between a
    minute and 30 days; `SOJOURN_ALLOTMENT_TTL`, if left out.
    """
    licenses = ask.context.services.licenses
    license_, key = licenses.create(
        body.name,
        {name: policy.policy() for name, policy in body.features.items()},
        valid_from=instant(body.valid_from),
        valid_until=instant(body.valid_until),
        allowed_origins=narrow(body.allowed_origins),
        allotment_ttl=None if body.allotment_ttl is None else round(body.allotment_ttl * SECOND),
        actor=ask.actor,
    )
    return Done(
        data=license_body(*licenses.get(license_.id), key=key),
        message="Keep the key: it is shown only now.",
    )


@operator("GET", "/api/licenses", may=Permission.READ)
def list_licenses(ask: OperatorCall, query: LicensesQuery) -> Done[Page[LicenseBody]]:
    """List licenses, by id, each with its features."""
    licenses, status = ask.context.services.licenses, optional(query.status)
    return Done(
        data=page_of(
            lambda after, limit: licenses.list(after=after, limit=limit, status=status),
            lambda found: license_body(*found),
            after=optional(query.after),
            limit=query.limit,
            cursor=lambda found: found[0].id,
            name=lambda found: found[0].id,
        )
    )


@operator("GET", "/api/licenses/{licenseId}", may=Permission.READ, problems=("license_unknown",))
def get_license(ask: OperatorCall, license_id: Name) -> Done[LicenseBody]:
    """Show a license with its features."""
    return Done(data=license_body(*ask.context.services.licenses.get(license_id)))


@operator(
    "PATCH",
    "/api/licenses/{licenseId}",
    may=Permission.LICENSES_WRITE,
    problems=("license_unknown", "license_of_authority"),
)
def change_license(
    ask: OperatorCall, license_id: Name, body: ChangeLicenseBody
) -> Done[LicenseBody]:
    """Rename, suspend, resume or re-date a license, or say which pages may use it.

    What is left out stays. Suspending stops acquires and renewals at once; leases that live run out.
    `allowedOrigins` replaces all that were allowed; heartbeats of pages that are allowed no longer are
    refused within five seconds. A shorter `allotmentTtl` shortens nothing that relays were promised; null is
    the server's own.
    """
    licenses = ask.context.services.licenses
    licenses.change(license_id, _change(body), actor=ask.actor)
    return Done(data=license_body(*licenses.get(license_id)))


@operator(
    "DELETE",
    "/api/licenses/{licenseId}",
    may=Permission.LICENSES_WRITE,
    problems=("license_unknown", "license_of_authority"),
)
def delete_license(ask: OperatorCall, license_id: Name) -> Done[None]:
    """Delete a license. Its live leases are revoked."""
    ask.context.services.licenses.delete(license_id, actor=ask.actor)
    return Done(data=None, message="The license is deleted, and its leases are revoked.")


@operator(
    "PUT",
    "/api/licenses/{licenseId}/features/{feature}",
    may=Permission.LICENSES_WRITE,
    problems=("license_unknown", "invalid_policy", "license_of_authority"),
)
def set_feature(
    ask: OperatorCall, license_id: Name, feature: Feature, body: PolicyBody
) -> Done[PoolBody]:
    """Add a feature to a license, or replace its policy.

    Shrinking the capacity evicts nobody: seats come back as their leases end.
    """
    pool = ask.context.services.licenses.set_feature(
        license_id, feature, body.policy(), actor=ask.actor
    )
    return Done(data=pool_body(pool))


@operator(
    "DELETE",
    "/api/licenses/{licenseId}/features/{feature}",
    may=Permission.LICENSES_WRITE,
    problems=("feature_unknown", "license_of_authority"),
)
def remove_feature(ask: OperatorCall, license_id: Name, feature: Feature) -> Done[None]:
    """Remove a feature from a license. Its live leases are revoked."""
    ask.context.services.licenses.remove_feature(license_id, feature, actor=ask.actor)
    return Done(data=None, message="The feature is removed, and its leases are revoked.")


@operator(
    "POST",
    "/api/licenses/{licenseId}/key",
    may=Permission.LICENSES_WRITE,
    status=201,
    problems=("license_unknown", "license_of_authority"),
)
def rotate_license_key(ask: OperatorCall, license_id: Name) -> Done[LicenseBody]:
    """Replace a license's key.

    The old one is refused from now on; leases that live are not touched. The new key is shown this
    once.
    """
    licenses = ask.context.services.licenses
    _, key = licenses.rotate_key(license_id, actor=ask.actor)
    return Done(
        data=license_body(*licenses.get(license_id), key=key),
        message="The old key is refused from now on. Keep the new one: it is shown only now.",
    )


def license_body(license_: License, pools: list[Pool], *, key: str | None = None) -> LicenseBody:
    return LicenseBody(
        license_id=license_.id,
        name=license_.name,
        status=license_.status,
        created_at=rfc3339(license_.created_at),
        valid_from=None if license_.valid_from is None else rfc3339(license_.valid_from),
        valid_until=None if license_.valid_until is None else rfc3339(license_.valid_until),
        features=[pool_body(pool) for pool in pools],
        allowed_origins=license_.allowed_origins,
        allotment_ttl=None if license_.allotment_ttl is None else seconds(license_.allotment_ttl),
        key=key,
    )


def narrow(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Return origins. Raises InvalidInput for a wildcard over domains of strangers, such as
    `https://*.github.io`."""
    for each in origins:
        scheme, star, domain = each.partition("://*.")
        if star and is_public_suffix(domain.partition(":")[0].lower()):
            raise InvalidInput(
                f"allowedOrigins: everybody may have a domain that {scheme}://*.{domain} stands for.",
                hint="Name a domain of your own: https://*.example.com.",
            )
    return origins


def _change(body: ChangeLicenseBody) -> LicenseChange:
    return LicenseChange(
        name=body.name,
        status=body.status,
        valid_from=UNSET if body.valid_from is UNSET else instant(body.valid_from),
        valid_until=UNSET if body.valid_until is UNSET else instant(body.valid_until),
        allowed_origins=UNSET if body.allowed_origins is UNSET else narrow(body.allowed_origins),
        allotment_ttl=body.allotment_ttl
        if body.allotment_ttl is None or body.allotment_ttl is UNSET
        else round(body.allotment_ttl * SECOND),
    )


CALLS = (
    create_license,
    list_licenses,
    get_license,
    change_license,
    delete_license,
    set_feature,
    remove_feature,
    rotate_license_key,
)
