"""Discounts and credit grants of Stripe as rows of the redemptions: on what, from when and until when.

Stripe keeps no history of a discount. When one was in force is read from the bills that carry it, from
what hangs on customers and subscriptions, and from what earlier pulls saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from dagster_project.sources.stripe_account import Account
from dagster_project.sources.stripe_bills import Bill
from dagster_project.sources.stripe_coupons import Coupons, amounts_by_currency
from dagster_project.sources.stripe_objects import Choices, Objects, Remembered
from dagster_project.sources.stripe_outcome import Outcome, Refusal, Row, instant
from dagster_project.sources.stripe_shapes import Discount, Json, at, data_of, id_of
from dagster_project.sources.stripe_windows import Mark, Window, holds, windows
from dagster_project.sources.stripe_workspaces import Workspaces


class Redemptions:
    """The redemptions that are delivered."""

    def __init__(
        self,
        objects: Objects,
        account: Account,
        coupons: Coupons,
        workspaces: Workspaces,
        remembered: Remembered,
        choices: Choices,
        outcome: Outcome,
        *,
        now: int,
        began: int,
    ) -> None:
        """Map the discounts and credit grants of an account.

        Args:
            objects: What the pull left.
            account: The account.
            coupons: The coupons that are delivered.
            workspaces: Which workspace a discount belongs to.
            remembered: What earlier pulls saw; all but `canonical` and `plans` is brought up to date.
            choices: The user's decisions.
            outcome: Where to say what rows cannot.
            now: The instant of the pull, in seconds since 1970.
            began: When the pull began to read.
        """
        self._objects = objects
        self._account = account
        self._coupons = coupons
        self._workspaces = workspaces
        self._remembered = remembered
        self._choices = choices
        self._outcome = outcome
        self._now = now
        self._began = began

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all discounts and credit grants, once all bills and coupons are mapped."""
        by_customer: dict[str, list[Discount]] = defaultdict(list)
        for discount_id in sorted({*self._account.alias.values()}):
            discount = self._account.discounts[discount_id]
            by_customer[discount.customer or ""].append(discount)
        for customer in sorted(by_customer):
            bills = list(map(Bill.of, self._objects.bills_of(customer)))
            yield from self._rows_of_customer(by_customer[customer], bills)
        for (customer, _), grants in sorted(self._account.grants.items()):
            for grant in grants:
                if grant["id"] not in self._coupons.rows:
                    continue
                try:
                    yield self._row_of_grant(grant, customer)
                except Refusal as error:
                    self._outcome.refuse("redemptions", grant["id"], str(error))

    def _rows_of_customer(self, discounts: list[Discount], bills: list[Bill]) -> Iterator[Row]:
        """Yield the redemptions of one customer: its own after those of its subscriptions."""
        standing: dict[str, list[Window]] = defaultdict(list)
        for discount in sorted(discounts, key=lambda one: one.place == "customer"):
            try:
                if discount.customer is None:
                    raise Refusal("it names no customer, so it belongs to no workspace")
                if discount.place in ("invoice", "invoice_item"):
                    yield from self._rows_of_bill(discount, bills)
                else:
                    yield from self._lasting(discount, bills, standing)
            except Refusal as error:
                self._outcome.refuse("redemptions", discount.id, str(error))

    def _rows_of_bill(self, discount: Discount, bills: list[Bill]) -> Iterator[Row]:
        """Yield a discount of one bill: in force at its issue alone."""
        carrying = [one for one in bills if discount.id in one.orders]
        carrying = [one for one in carrying if one.id == discount.place_id] or carrying
        if not carrying:
            return  # the bill is a draft still, or is not delivered
        bill = carrying[0]
        coupon_id = self._coupon_of(discount, bill.subscription, carrying)
        coupon_id = self._coupons.variant(coupon_id, carrying, 1)
        order = bill.orders[discount.id]
        is_idle = discount.id in bill.idle and bill.is_discountable
        window = (bill.at, bill.at if is_idle else bill.at + 1)
        yield self._row(discount, coupon_id, bill.subscription, window, order, 1, of_bills=True)

    def _lasting(
        self,
        discount: Discount,
        bills: list[Bill],
        standing: dict[str, list[Window]],
    ) -> Iterator[Row]:
        """Yield a discount of a customer, subscription or item, one part for each window."""
        is_of_customer = discount.place == "customer"
        subscription = discount.subscription or self._account.item_subscriptions.get(
            (discount.place_id or "") if discount.place == "subscription_item" else ""
        )
        is_once = at(self._account.coupons.get(discount.coupon_id), "duration") == "once"
        carrying = [one for one in bills if discount.id in one.orders]
        if discount.place == "subscription_item" and carrying:
            subscription = subscription or carrying[0].subscription  # the item may be gone
        try:
            coupon_id = self._coupon_of(discount, subscription, carrying)
        except Refusal:
            if discount.place == "subscription" and subscription and not is_once:
                standing[subscription].append((discount.start, discount.end))
            raise
        coupon_id = self._coupons.variant(coupon_id, carrying, 1)
        of_scope = [one for one in bills if subscription in (None, one.subscription)]
        plan = self._coupons.rows[coupon_id]["applies_to_plan"]
        marks = self._marks(discount, of_scope, plan)
        revoked = self._revoked_at(discount, subscription, carrying, marks)
        marks = self._marks_once_gone(discount, subscription, carrying, marks)
        end = min((one for one in (discount.end, revoked) if one is not None), default=None)
        if discount.place == "subscription" and subscription and not is_once:
            standing[subscription].append((discount.start, end))
        parts: list[tuple[Window, str | None]]
        of_bills = is_once and self._used_by(discount, carrying) is not None
        if is_once:
            parts = [self._window_of_one_use(discount, subscription, end, carrying, marks)]
        else:
            found = windows(discount.start, end, [(bill.at, mark) for bill, mark in marks])
            parts = [(window, subscription) for window in found]
            beside = {
                self._account.discounts.get(other) for one in carrying for other in one.orders
            }
            takes_both = any(other and other.place == "subscription" for other in beside)
            replaced_by: Mapping[str, list[Window]] = {} if takes_both else standing
            if is_of_customer and self._is_in_parts(discount, end, marks, found, replaced_by):
                parts = self._parts(discount, end, marks, replaced_by)
                of_bills = True
        order = (
            carrying[0].orders[discount.id]
            if carrying
            else self._account.orders_hanging.get(discount.id)
        )
        for number, (window, of_subscription) in enumerate(parts, 1):
            of_part = [
                bill
                for bill in carrying
                if of_subscription in (None, bill.subscription) and holds(window, bill.at)
            ]
            one = self._coupon_of(discount, of_subscription, of_part or carrying)
            one = self._coupons.variant(one, carrying, number)
            is_of_bills = of_bills and window[0] != window[1]
            yield self._row(
                discount, one, of_subscription, window, order, number, of_bills=is_of_bills
            )
        known = self._remembered.parts.get(discount.id, 1)
        for number in range(len(parts) + 1, known + 1):
            one = self._coupons.variant(coupon_id, carrying, number)
            never = (discount.start, discount.start)
            yield self._row(discount, one, parts[0][1], never, order, number)
        if len(parts) > 1:
            self._remembered.parts[discount.id] = max(known, len(parts))
            self._outcome.note(
                "in_parts",
                discount.id,
                f"it does not act on every bill: {len(parts)} redemptions say when and on what it was in"
                " force",
            )

    def _row(
        self,
        discount: Discount,
        coupon_id: str,
        subscription: str | None,
        window: Window,
        order: int | None,
        number: int,
        *,
        of_bills: bool = False,
    ) -> Row:
        """Return a row of a discount, in force in a window.

        Where it is of bills, one without a subscription is of the workspace of such bills.
        """
        starts, until = window
        redemption_id = discount.id if number == 1 else f"{discount.id}~{number}"
        what = "" if of_bills else "a discount"
        workspace, is_withdrawn = self._workspace_of(
            redemption_id, discount.customer or "", subscription, what, discount.start
        )
        if is_withdrawn:
            until = starts
        if number == 1:
            self._outcome.counts["redemptions"] += 1
        ends, revoked = discount.end, None
        if until is not None and until != discount.end:
            if discount.place in ("invoice", "invoice_item") or (
                discount.end is not None and until > discount.end
            ):
                ends = until
            else:
                revoked = until
        self._workspaces.seen(workspace, discount.customer or "", discount.start)
        is_later = starts != discount.start or discount.place in ("invoice", "invoice_item")
        return {
            "redemption_id": redemption_id,
            "coupon_id": coupon_id,
            "workspace_id": workspace,
            "subscription_id": subscription,
            "redeemed_at": instant(discount.start),
            "starts_at": instant(starts) if is_later else None,
            "ends_at": instant(ends) if ends is not None else None,
            "revoked_at": instant(revoked) if revoked is not None else None,
            "channel": "self_serve" if discount.promotion_code else None,
            "application_order": str(order) if order is not None else None,
        }

    def _workspace_of(
        self, redemption_id: str, customer: str, subscription: str | None, what: str, start: int
    ) -> tuple[str, bool]:
        """Return the workspace of a redemption, and whether it is withdrawn.

        A row that was delivered cannot be taken back: where it would be refused by now, it is stated
        again as never in force.
        """
        try:
            return self._workspaces.workspace_of(customer, subscription, what, start), False
        except Refusal as error:
            if self._objects.delivered("redemptions", redemption_id) is None:
                raise
            self._outcome.refuse("redemptions", redemption_id, str(error))
            return self._account.subscriptions_of[customer][0], True

    def _marks(
        self, discount: Discount, bills: list[Bill], plan: str | None
    ) -> list[tuple[Bill, Mark]]:
        """Return what the counted bills reveal about a discount, by the instant of their issue."""
        # A bill that was voided used a coupon for one bill up until then.
        is_once = at(self._account.coupons.get(discount.coupon_id), "duration") == "once"
        spent = [one for one in bills if is_once and one.voided and discount.id in one.orders]
        found = []
        for bill in bills:
            if not bill.is_counted:
                continue
            if discount.id in bill.orders:
                if not bill.is_discountable:
                    continue
                if discount.id in bill.idle:
                    found.append((bill, Mark.SET_ASIDE))
                elif discount.end is None or bill.created < discount.end:
                    found.append((bill, Mark.CARRIES))
                continue
            can_be_discounted = bill.lines or bill.is_discountable
            if not can_be_discounted or (plan is not None and bill.plan != plan):
                continue  # the ledger expects nothing of it here
            is_set_aside = (
                bill.created < discount.start
                or not self._could_act_on(discount, bill)
                or any(self._comes_before(one, discount) for one in bill.orders)
                or any(one.created <= bill.created <= (one.voided or 0) for one in spent)
            )
            found.append((bill, Mark.SET_ASIDE if is_set_aside else Mark.SILENT))
        return found

    def _marks_once_gone(
        self,
        discount: Discount,
        subscription: str | None,
        carrying: list[Bill],
        marks: list[tuple[Bill, Mark]],
    ) -> list[tuple[Bill, Mark]]:
        """Return the marks with bills set aside that were made after a discount was gone.

        The last bill that carries it may be issued long after, and so after them.
        """
        ended = at(self._account.subscriptions.get(subscription or ""), "ended_at")
        known = [one for one in (self._account.removed_at.get(discount.id), ended) if one]
        if discount.id in self._account.orders_hanging:
            known = [ended] if ended else []
        elif not known:
            known = [max(bill.created for bill in carrying) + 1] if carrying else []
        last = max((bill.at for bill in carrying if bill.is_counted), default=0)
        return [
            (bill, Mark.SET_ASIDE)
            if mark is Mark.SILENT and bill.at < last and any(bill.created >= one for one in known)
            else (bill, mark)
            for bill, mark in marks
        ]

    def _comes_before(self, other_id: str, discount: Discount) -> bool:
        """Return whether a bill with another discount applies that one in place of this one."""
        other = self._account.discounts.get(other_id)
        stronger = {"customer": ("subscription", "invoice"), "subscription": ("invoice",)}
        return other is not None and other.place in stronger.get(discount.place, ())

    def _window_of_one_use(
        self,
        discount: Discount,
        subscription: str | None,
        end: int | None,
        carrying: list[Bill],
        marks: list[tuple[Bill, Mark]],
    ) -> tuple[Window, str | None]:
        """Return when a coupon for one bill waited for the bill, and its subscription, if limited."""
        used = self._used_by(discount, carrying)
        if used is None:
            found = windows(discount.start, end, [(bill.at, mark) for bill, mark in marks])
            return found[-1], subscription
        # A bill that was made after the one that used it up came too late, even if issued before.
        until = [
            (bill.at, mark if bill == used or bill.created < used.created else Mark.SET_ASIDE)
            for bill, mark in marks
            if bill.at <= used.at
        ]
        found = windows(discount.start, end, until)
        window = next((one for one in found if one[1] is None or used.at < one[1]), found[-1])
        if window[0] != discount.start or self._choices.workspace == "subscription":
            subscription = used.subscription or subscription
        return (window[0], end), subscription

    def _used_by(self, discount: Discount, carrying: list[Bill]) -> Bill | None:
        """Return the bill that used up a coupon for one bill, if there is one."""
        return next(
            (
                one
                for one in carrying
                if one.is_counted
                and discount.id not in one.idle
                and self._could_act_on(discount, one)
            ),
            None,
        )

    def _could_act_on(self, discount: Discount, bill: Bill) -> bool:
        """Return whether a bill has a line on which a discount may act."""
        coupon = self._account.coupons.get(discount.coupon_id)
        wanted = {id_of(one) for one in data_of(at(coupon, "applies_to", "products"))}
        is_of_item = discount.place == "subscription_item"
        return any(
            (not wanted or product in wanted) and (not is_of_item or item == discount.place_id)
            for product, item in bill.lines
        )

    def _is_in_parts(
        self,
        discount: Discount,
        end: int | None,
        marks: list[tuple[Bill, Mark]],
        found: list[Window],
        standing: Mapping[str, list[Window]],
    ) -> bool:
        """Return whether a customer's discount must be stated for each subscription separately."""
        if self._choices.workspace == "subscription":
            several = self._account.subscriptions_of.get(discount.customer or "", ())
            if len(several) > 1 or any(
                bill.subscription is None for bill, mark in marks if mark is Mark.CARRIES
            ):
                return True
        is_replaced = any(
            (end is None or first < end) and (after is None or after > discount.start)
            for of_subscription in standing.values()
            for first, after in of_subscription
        )
        amounts = amounts_by_currency(self._account.coupons[discount.coupon_id])
        if len(amounts.keys() & {bill.currency for bill, _ in marks}) > 1:
            return True
        said: dict[int, set[bool]] = defaultdict(set)
        for bill, mark in marks:
            said[bill.at].add(mark is Mark.SET_ASIDE)
        return is_replaced or len(found) > 1 or any(len(one) > 1 for one in said.values())

    def _parts(
        self,
        discount: Discount,
        end: int | None,
        marks: list[tuple[Bill, Mark]],
        standing: Mapping[str, list[Window]],
    ) -> list[tuple[Window, str | None]]:
        """Return the windows of a customer's discount, by subscription and for bills without one."""
        found: list[tuple[int, int, str, Window, str | None]] = []
        customer = discount.customer or ""
        of_bills = {bill.subscription for bill, _ in marks if bill.subscription is not None}
        for one in sorted(of_bills.union(self._account.subscriptions_of.get(customer, ()))):
            known = self._account.subscriptions.get(one, {})
            ended, created = known.get("ended_at"), known.get("created") or 0
            until = min((when for when in (end, ended) if when is not None), default=None)
            said = [(bill.at, mark) for bill, mark in marks if bill.subscription == one]
            for window in windows(discount.start, until, said, standing.get(one, ())):
                if window[1] is None or max(window[0], created) < window[1]:
                    found.append((window[0], created, one, window, one))
        for bill, mark in marks:
            is_inside = bill.at >= discount.start and (end is None or bill.at < end)
            if bill.subscription is None and (
                mark is Mark.CARRIES or (mark is Mark.SILENT and is_inside)
            ):
                found.append((bill.at, 0, "", (bill.at, bill.at + 1), None))
        found.sort(key=lambda one: one[:3])
        never = (discount.start, discount.start)
        first = next(iter(self._account.subscriptions_of.get(customer, ())), None)
        return [(window, one) for *_, window, one in found] or [(never, first)]

    def _coupon_of(
        self,
        discount: Discount,
        subscription: str | None,
        bills: list[Bill],
    ) -> str:
        coupon_id = discount.coupon_id
        coupon = self._account.coupons.get(coupon_id)
        if coupon is None:
            raise Refusal(
                f"what its coupon {coupon_id} gives is not known, as when it was deleted before the"
                " first pull: the redemption cannot be judged, and bills that carry it will show"
                " a discount without a coupon"
            )
        amounts = amounts_by_currency(coupon)
        if coupon.get("percent_off") is None and len(amounts) > 1:
            currencies = [
                at(self._account.subscriptions.get(subscription or ""), "currency"),
                *(bill.currency for bill in bills),
                self._account.customer_currency.get(discount.customer or ""),
                coupon.get("currency"),
            ]
            codes = [str(one).upper() for one in currencies if one]
            code = next((one for one in codes if one in amounts), sorted(amounts)[0])
            coupon_id = f"{coupon_id}~{code}"
        if coupon_id not in self._coupons.rows:
            raise Refusal(f"its coupon {coupon_id} is not delivered")
        return coupon_id

    def _revoked_at(
        self,
        discount: Discount,
        subscription: str | None,
        bills: list[Bill],
        marks: list[tuple[Bill, Mark]],
    ) -> int | None:
        """Return when a discount was taken off before its end: known, or the later bound of it."""
        remembered = self._remembered
        if discount.id in self._account.orders_hanging:
            remembered.gone_by.pop(discount.id, None)
            remembered.hung_at[discount.id] = self._began
            ended = at(self._account.subscriptions.get(subscription or ""), "ended_at")
            return self._not_before_bills(ended, discount, bills) if ended else None
        coupon = self._account.coupons.get(discount.coupon_id) or {}
        if coupon.get("duration") == "once" and self._used_by(discount, bills):
            return None  # a coupon that is used up leaves by itself
        exact = self._account.removed_at.get(discount.id)
        ended = at(self._account.subscriptions.get(subscription or ""), "ended_at")
        if exact:
            return self._not_before_bills(min(exact, ended or exact), discount, bills)
        without = self._first_bill_without(discount, bills, marks)
        gone_by = self._gone_by(discount, subscription)
        bounds = [one for one in (ended, without, gone_by) if one]
        if not bounds:
            return None
        if ended and ended == min(bounds):
            return self._not_before_bills(ended, discount, bills)
        bound = self._not_before_bills(min(bounds), discount, bills)
        if bound is not None:
            hung = self._remembered.hung_at.get(discount.id, 0)
            since = max([discount.start, hung, *(bill.at for bill in bills)])
            self._outcome.note(
                "end_is_a_bound",
                discount.id,
                f"it was taken off between {instant(since)} and {instant(bound)}; revoked_at is"
                " the later of the two",
            )
        return bound

    def _not_before_bills(self, revoked: int, discount: Discount, bills: list[Bill]) -> int | None:
        """Return an end that covers what bills show was in force; None from the natural end on.

        A bill on which nothing can act, as one that gives money back, shows nothing.
        """
        last = max(
            (bill.at for bill in bills if bill.is_counted and bill.is_discountable), default=None
        )
        if last is not None and revoked <= last:
            revoked = last + 1
        return None if discount.end is not None and revoked >= discount.end else revoked

    def _first_bill_without(
        self, discount: Discount, bills: list[Bill], marks: list[tuple[Bill, Mark]]
    ) -> int | None:
        """Return the first bill after a discount's last that could have carried it but did not."""
        last = max((bill.at for bill in bills), default=discount.start)
        last = max(last, self._remembered.hung_at.get(discount.id, 0))
        return next(
            (
                bill.at
                for bill, mark in marks
                if mark is Mark.SILENT
                and bill.at > last
                and (discount.end is None or bill.at < discount.end)
            ),
            None,
        )

    def _gone_by(self, discount: Discount, subscription: str | None) -> int | None:
        """Return the first pull, this one included, that no longer found a discount."""
        known = self._remembered.gone_by.get(discount.id)
        if known is not None:
            return known
        if discount.end is not None and discount.end <= self._now:
            return None
        place = (
            ("subscriptions", subscription) if subscription else ("customers", discount.customer)
        )
        was_seen = discount.id in self._remembered.hung_at
        is_newer = discount.start >= self._began
        if not was_seen and (is_newer or not self._objects.is_listed(place[0], place[1] or "")):
            return None  # nothing says that it is gone
        self._remembered.gone_by[discount.id] = self._now
        return self._now

    def _row_of_grant(self, grant: Json, customer: str) -> Row:
        if not customer:
            raise Refusal("it names no customer, so it belongs to no workspace")
        created = int(grant["created"])
        starts = grant.get("effective_at") or created
        workspace, is_withdrawn = self._workspace_of(
            grant["id"], customer, None, "a credit grant", starts
        )
        ends = starts if is_withdrawn else grant.get("expires_at")
        self._workspaces.seen(workspace, customer, created)
        self._outcome.counts["redemptions"] += 1
        return {
            "redemption_id": grant["id"],
            "coupon_id": grant["id"],
            "workspace_id": workspace,
            "subscription_id": None,
            "redeemed_at": instant(created),
            "starts_at": instant(starts),
            "ends_at": instant(ends) if ends else None,
            "revoked_at": instant(grant["voided_at"]) if grant.get("voided_at") else None,
            "channel": None,
            "application_order": None,
        }
