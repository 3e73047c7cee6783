"""The invented billing system's own reading of the rules: one redemption, one invoice at a time.

R2 (which redemptions are honoured), R3 (when they are in force), R4 (follow-ups) and a chronological
application of R5 to R7 to one workspace belong here. The code is deliberately unlike the dbt models,
which compute the same from whole tables, so each can show a mistake in the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dagster_project.sample.moments import FOREVER, add_months
from dagster_project.sample.prices import rounded_share
from dagster_project.sample.programs import Coupon


@dataclass(slots=True)
class Redemption:
    """One redemption: first the fields of the feed, then what the rules derive from them.

    Attributes:
        start: First instant in force (R3).
        end: Instant it is no longer in force, `FOREVER` for none.
        natural_end: The same, ignoring revocation and lost eligibility.
        ended_by: `expiry`, `revocation`, `eligibility`, or None without an end.
        refusal: Reason of R2, or None when honoured.
        is_derived: Whether R4 derived it.
        subscription_id: The subscription it is limited to, empty for none; only redemptions of the
            showcase have one.
    """

    redemption_id: str
    coupon_id: str
    workspace_id: str
    user_id: str
    redeemed_at: int
    starts_at: int | None = None
    ends_at: int | None = None
    revoked_at: int | None = None
    eligible_until: int | None = None
    channel: str = "self_serve"
    application_order: int | None = None
    start: int = 0
    end: int = FOREVER
    natural_end: int = FOREVER
    ended_by: str | None = None
    refusal: str | None = None
    is_derived: bool = False
    subscription_id: str = ""

    def is_in_force(self, moment: int) -> bool:
        """Return whether an instant is in the window, start included, end excluded (R3)."""
        return self.start <= moment < self.end


@dataclass(slots=True)
class Judgement:
    """What R2 to R4 say about all redemptions.

    Attributes:
        by_workspace: Every redemption, refused and derived ones too, by workspace.
        late_follow_ups: Redemptions on record with the finding `follow_up_not_immediate`.
    """

    by_workspace: dict[str, list[Redemption]] = field(default_factory=lambda: defaultdict(list))
    late_follow_ups: list[Redemption] = field(default_factory=list)


def set_window(redemption: Redemption, coupon: Coupon | None) -> None:
    """Set when a redemption is in force (R3); for an unknown coupon, by its own dates alone."""
    start = redemption.redeemed_at if redemption.starts_at is None else redemption.starts_at
    natural_end = FOREVER
    if redemption.ends_at is not None:
        natural_end = redemption.ends_at
    elif coupon is not None and coupon.duration_months is not None:
        natural_end = add_months(start, coupon.duration_months)
    elif (
        coupon is not None
        and coupon.discount_type == "credit"
        and coupon.credit_period_months is not None
    ):
        periods = coupon.credit_max_periods or 1
        natural_end = add_months(start, coupon.credit_period_months * periods)
    revoked_at = FOREVER if redemption.revoked_at is None else redemption.revoked_at
    eligible_until = FOREVER if redemption.eligible_until is None else redemption.eligible_until
    end = min(natural_end, revoked_at, eligible_until)
    redemption.start, redemption.natural_end, redemption.end = start, natural_end, end
    if end == FOREVER:
        redemption.ended_by = None
    elif end == natural_end:
        redemption.ended_by = "expiry"
    else:
        redemption.ended_by = "revocation" if end == revoked_at else "eligibility"


def _refusals(
    redemptions: list[Redemption], coupons: Mapping[str, Coupon], workspace_ids: frozenset[str]
) -> None:
    """Apply R2, in the order of redemption; the first reason that holds refuses."""
    coupons_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    uses: dict[str, int] = defaultdict(int)
    for redemption in redemptions:
        coupon = coupons.get(redemption.coupon_id)
        of_workspace = coupons_of["workspace", redemption.workspace_id]
        of_user = coupons_of["user", redemption.user_id] if redemption.user_id else set()
        if coupon is None:
            redemption.refusal = "unknown_coupon"
        elif redemption.workspace_id not in workspace_ids:
            redemption.refusal = "unknown_workspace"
        elif coupon.redeem_by is not None and redemption.redeemed_at > coupon.redeem_by:
            redemption.refusal = "redeemed_after_close"
        elif coupon.coupon_id in of_workspace:
            redemption.refusal = "duplicate_for_workspace"
        elif coupon.coupon_id in of_user:
            redemption.refusal = "duplicate_for_user"
        elif coupon.requires_no_prior_coupon and any(
            other != coupon.coupon_id
            and not (other in coupons and coupons[other].follow_up_coupon_id == coupon.coupon_id)
            for other in of_workspace | of_user
        ):
            redemption.refusal = "prior_coupon"
        else:
            if coupon.max_redemptions is not None and uses[coupon.coupon_id] >= (
                coupon.max_redemptions
            ):
                redemption.refusal = "over_redeemed"
            uses[coupon.coupon_id] += 1
        of_workspace.add(redemption.coupon_id)
        of_user.add(redemption.coupon_id)


def judge(
    redemptions: Iterable[Redemption],
    coupons: Mapping[str, Coupon],
    workspace_ids: frozenset[str],
    end: int,
) -> Judgement:
    """Apply R2 to R4 to all redemptions on record.

    Args:
        redemptions: Every redemption on record; refusal and window are set on them.
        coupons: The coupons as they are now, by id.
        workspace_ids: The workspaces that exist.
        end: First instant after the as-of date.

    Returns:
        The redemptions, derived ones added, and the late follow-ups.
    """
    ordered = sorted(redemptions, key=lambda one: (one.redeemed_at, one.redemption_id))
    _refusals(ordered, coupons, workspace_ids)
    judgement = Judgement()
    coupon_users: set[tuple[str, str]] = set()
    for redemption in ordered:
        set_window(redemption, coupons.get(redemption.coupon_id))
        judgement.by_workspace[redemption.workspace_id].append(redemption)
        if redemption.user_id:
            coupon_users.add((redemption.coupon_id, redemption.user_id))

    derived: list[Redemption] = []
    followed: dict[str, list[Redemption]] = defaultdict(list)
    for redemption in ordered:
        coupon = coupons.get(redemption.coupon_id)
        next_id = None if coupon is None else coupon.follow_up_coupon_id
        if (
            redemption.refusal is not None
            or next_id is None
            or next_id == redemption.coupon_id
            or next_id not in coupons
            or redemption.ended_by != "expiry"
            or not redemption.start < redemption.end < end
        ):
            continue
        on_record = [
            other
            for other in judgement.by_workspace[redemption.workspace_id]
            if other.coupon_id == next_id
        ]
        if not on_record:
            follow_up = Redemption(
                redemption.redemption_id + "~follow-up",
                next_id,
                redemption.workspace_id,
                redemption.user_id,
                redemption.end,
                channel="follow_up",
                is_derived=True,
            )
            set_window(follow_up, coupons[follow_up.coupon_id])
            derived.append(follow_up)
        for other in on_record:
            is_later = (redemption.redeemed_at, redemption.redemption_id) <= (
                other.redeemed_at,
                other.redemption_id,
            )
            if other.refusal is None and is_later:
                followed[other.redemption_id].append(redemption)

    coupon_workspaces: set[tuple[str, str]] = set()
    for redemption in sorted(derived, key=lambda one: (one.start, one.redemption_id)):
        if (redemption.coupon_id, redemption.workspace_id) in coupon_workspaces:
            redemption.refusal = "duplicate_for_workspace"
        elif redemption.user_id and (redemption.coupon_id, redemption.user_id) in coupon_users:
            redemption.refusal = "duplicate_for_user"
        coupon_workspaces.add((redemption.coupon_id, redemption.workspace_id))
        if redemption.user_id:
            coupon_users.add((redemption.coupon_id, redemption.user_id))
        judgement.by_workspace[redemption.workspace_id].append(redemption)

    for redemption in ordered:
        before = followed.get(redemption.redemption_id)
        if before and all(redemption.start != other.end for other in before):
            judgement.late_follow_ups.append(redemption)
    return judgement


@dataclass(slots=True)
class Bill:
    """One invoice before coupons.

    Attributes:
        period_start: Day number.
        period_end: Day number, exclusive.
        months: Months of the period, at least 1 (R6).
        list_amount: Minor units before discounts, credit and tax.
        mtus: Monthly tracked users billed, None where none are.
        issued_at: Seconds since 1970.
        status: Its final status.
        correction: How its first version differed from the final one, None if it was never
            restated: `usage`, `coupon_forgotten`, `voided` or `finalised`.
    """

    invoice_id: str
    plan: str
    billing_interval: str
    currency: str
    period_start: int
    period_end: int
    months: int
    list_amount: int
    mtus: int | None
    issued_at: int
    status: str = "paid"
    correction: str | None = None

    @property
    def is_counted(self) -> bool:
        """Whether the bill takes discounts and uses credit (R1)."""
        return self.status not in ("void", "draft")


@dataclass(slots=True)
class _Promotion:
    """An honoured redemption with its coupon, and how many invoices it may still cover."""

    redemption: Redemption
    coupon: Coupon
    uses_left: int

    def covers(self, bill: Bill) -> bool:
        """Apply R5 and the invoice limit of R3."""
        coupon = self.coupon
        return (
            self.redemption.start <= bill.issued_at < self.redemption.end
            and self.uses_left > 0
            and (coupon.applies_to_plan is None or coupon.applies_to_plan == bill.plan)
            and (
                coupon.applies_to_interval is None
                or coupon.applies_to_interval == bill.billing_interval
            )
            and (coupon.discount_type == "percent_off" or coupon.currency == bill.currency)
        )

    def use(self, bill: Bill) -> None:
        """Count a use (R3); an invoice whose list amount is zero is not a use."""
        if bill.list_amount > 0:
            self.uses_left -= 1


@dataclass(slots=True)
class _Grant:
    """One grant of credit and what bills have left of it."""

    promotion: _Promotion
    start: int
    end: int
    left: int


_LAST = 1 << 61


class Account:
    """One workspace's promotions, applied to its invoices in the order they are issued.

    Call `discount`, then `credit_available`, then `draw`, for every counted invoice in the order
    (issued_at, invoice_id).
    """

    def __init__(self, redemptions: list[Redemption], coupons: Mapping[str, Coupon]) -> None:
        """Sort the promotions of a workspace into the orders of R6 and R7."""
        self._discounts: list[_Promotion] = []
        self._credits: list[_Promotion] = []
        self._refused = [one for one in redemptions if one.refusal is not None]
        self._coupons = coupons
        grants: list[tuple[int, int, int, str, _Grant]] = []
        for redemption in redemptions:
            if redemption.refusal is not None:
                continue
            coupon = coupons[redemption.coupon_id]
            uses = 1 if coupon.duration == "once" else coupon.duration_invoices or _LAST
            promotion = _Promotion(redemption, coupon, uses)
            if coupon.discount_type != "credit":
                self._discounts.append(promotion)
                continue
            self._credits.append(promotion)
            priority = _LAST if coupon.credit_priority is None else coupon.credit_priority
            for period in range(1, (coupon.credit_max_periods or 1) + 1):
                grant_start, scheduled_end = redemption.start, redemption.natural_end
                if coupon.credit_period_months is not None:
                    grant_start = add_months(
                        redemption.start, (period - 1) * coupon.credit_period_months
                    )
                    scheduled_end = min(
                        scheduled_end,
                        add_months(redemption.start, period * coupon.credit_period_months),
                    )
                elif period > 1:
                    break
                if period > 1 and (
                    grant_start >= redemption.end
                    or (coupon.redeem_by is not None and grant_start > coupon.redeem_by)
                ):
                    break
                grant_end = min(scheduled_end, redemption.end)
                grant = _Grant(promotion, grant_start, grant_end, coupon.credit_amount or 0)
                grant_id = f"{redemption.redemption_id}#{period}"
                grants.append((priority, scheduled_end, grant_start, grant_id, grant))
        self._discounts.sort(
            key=lambda one: (
                _LAST
                if one.redemption.application_order is None
                else one.redemption.application_order,
                one.redemption.redeemed_at,
                one.redemption.redemption_id,
            )
        )
        self._grants = [grant for *_, grant in sorted(grants, key=lambda item: item[:4])]

    @property
    def has_credit(self) -> bool:
        """Whether it ever was granted credit."""
        return bool(self._grants)

    def discount(self, bill: Bill) -> int:
        """Calculate the discount of an invoice (R6); a counted invoice uses its coupons up."""
        remaining = bill.list_amount
        for promotion in self._discounts:
            if not promotion.covers(bill):
                continue
            if bill.is_counted:
                promotion.use(bill)
            coupon = promotion.coupon
            if coupon.percent_off is not None:
                amount = rounded_share(remaining, coupon.percent_off, 1_000_000)
            else:
                amount = coupon.amount_off or 0
                if coupon.amount_off_per == "month":
                    amount *= bill.months
            remaining -= min(amount, remaining)
        return bill.list_amount - remaining

    def _covering(self, bill: Bill) -> list[_Grant]:
        return [
            grant
            for grant in self._grants
            if grant.start <= bill.issued_at < grant.end and grant.promotion.covers(bill)
        ]

    def credit_available(self, bill: Bill) -> int:
        """Return what the grants that cover an invoice have left after the credit billed so far (R7, R9)."""
        if not self._grants:
            return 0
        return sum(grant.left for grant in self._covering(bill))

    def draw(self, bill: Bill, amount: int) -> None:
        """Draw the credit billed on a counted invoice (R7); what no grant covers is dropped."""
        if not self._grants:
            return
        for grant in self._covering(bill):
            drawn = min(amount, grant.left)
            grant.left -= drawn
            amount -= drawn
        for promotion in self._credits:
            if promotion.covers(bill):
                promotion.use(bill)

    def discount_state(self, moment: int) -> str:
        """Return which kind of discount error is possible at an instant.

        Returns:
            `in_force` if an honoured percent-off or dollar-off redemption is in force; `ended` if one
            had ended and no refused one would be in force; `refused` if a refused one would be in
            force and none had ended; `none` if there is neither; `unclear` if the case can be read in
            two ways.
        """
        if any(one.redemption.is_in_force(moment) for one in self._discounts):
            return "in_force"
        ended = any(one.redemption.start < one.redemption.end <= moment for one in self._discounts)
        refused = [one for one in self._refused if one.is_in_force(moment)]
        refused_credit = any(
            one.coupon_id in self._coupons
            and self._coupons[one.coupon_id].discount_type == "credit"
            for one in refused
        )
        if refused:
            clear = not ended and not refused_credit and not any(one.is_derived for one in refused)
            return "refused" if clear else "unclear"
        return "ended" if ended else "none"
