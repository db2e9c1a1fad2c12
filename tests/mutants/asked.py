"""Breaks of the talk with the provider: what an answer proves, what is sent again, lists, prices, and the key."""

# ruff: noqa: E501 # texts stand as in the source

from typing import Final

from tests.mutants.runner import Mutant

_RENTING: Final = "server/vastai_workflow/vast/renting.py"
_MARKET: Final = "server/vastai_workflow/vast/market.py"
_CLIENT: Final = "server/vastai_workflow/vast/client.py"
_ERRORS: Final = "server/vastai_workflow/vast/errors.py"
_MODELS: Final = "server/vastai_workflow/vast/models.py"

_CREATE: Final = "tests/vast/test_create.py"
_LISTS: Final = "tests/vast/test_lists.py"
_UNKNOWN: Final = f"{_CREATE}::test_everything_else_leaves_the_order_unknown_and_is_sent_once"
_END: Final = "tests/tools/test_create_ends.py::test_an_ambiguous_end_is_sent_once_blocks_the_account_and_is_settled"
_EXCHANGE: Final = "                reply = await self._client.exchange(put)\n"

MUTANTS: Final = (
    Mutant(
        "a create is repeated on 502",
        _MARKET,
        _EXCHANGE,
        f"{_EXCHANGE}                if reply.status == 502:\n    {_EXCHANGE}",
        (f"{_END}[502 without effect-shown]",),
    ),
    Mutant(
        "a create is repeated on a time-out",
        _MARKET,
        "            return MaybeRented(lost.message)\n        except TimeoutError:",
        "            reply = await self._client.exchange(put)\n        except TimeoutError:",
        (f"{_END}[an answer after the time-out-shown]",),
    ),
    Mutant(
        "a time-out is no connection",
        _CLIENT,
        "_NOTHING_SENT: Final = (httpx.ConnectError, ",
        "_NOTHING_SENT: Final = (httpx.ConnectError, httpx.ReadTimeout, ",
        (f"{_END}[an answer after the time-out-hidden]",),
    ),
    Mutant(
        "a cut connection is no connection",
        _CLIENT,
        "_NOTHING_SENT: Final = (httpx.ConnectError, ",
        "_NOTHING_SENT: Final = (httpx.ConnectError, httpx.RemoteProtocolError, ",
        (f"{_END}[cut before the reply-hidden]",),
    ),
    Mutant(
        "409 is a known refusal",
        _RENTING,
        '        (400, "no_ssh_key_for_vm"),\n',
        '        (400, "no_ssh_key_for_vm"),\n        (409, "server_error"),\n        (409, "invalid_args"),\n',
        (_UNKNOWN,),
    ),
    Mutant(
        "an unknown code is a refusal",
        _RENTING,
        "refusal_key(answer, error) in KNOWN_REFUSALS",
        "400 <= answer.status < 500",
        (f"{_END}[a code that nobody knows-shown]",),
    ),
    Mutant(
        "200 with a refusal's code is a refusal",
        _RENTING,
        "refusal_key(answer, error) in KNOWN_REFUSALS",
        'error.code in {"no_such_ask", "insufficient_credit"} or refusal_key(answer, error) in KNOWN_REFUSALS',
        (f"{_END}[200 with the code of no credit-hidden]",),
    ),
    Mutant(
        "5xx with a refusal's code is a refusal",
        _ERRORS,
        "    if status >= 500:",
        "    if status >= 500 and not answer.code:",
        (f"{_CREATE}::test_everything_else_leaves_the_order_unknown_and_is_sent_once", "tests/vast/test_errors.py"),
    ),
    Mutant(
        "a refusal that says yes is a refusal",
        _RENTING,
        "not _says_yes(answer.fields) and ",
        "",
        (_UNKNOWN,),
    ),
    Mutant(
        "an error with a machine is an error",
        _RENTING,
        "    if instance_id:\n        return RentedWithError",
        "    if False:\n        return RentedWithError",
        (f"{_END}[400 invalid_args that names a machine-hidden]",),
    ),
    Mutant(
        "a yes without a machine is a refusal",
        _RENTING,
        'else MaybeRented("the provider says yes and names no instance")',
        'else NotRented("request_rejected", "no instance")',
        (_UNKNOWN,),
    ),
    Mutant(
        "an unreadable yes is a refusal",
        _MARKET,
        "        if not readable(reply) and reply.succeeded:\n            return MaybeRented",
        "        if False:\n            return MaybeRented",
        (_UNKNOWN, f"{_END}[an empty body-hidden]"),
    ),
    Mutant(
        "the order's mark is left out",
        _RENTING,
        '"env": {**env, **ports, ORDER_VARIABLE: request.order_marker},',
        '"env": {**env, **ports},',
        ("tests/tools/test_create.py::test_the_order_rides_in_the_machines_environment_and_the_label_is_the_users",),
    ),
    Mutant(
        "the user's env may replace the mark",
        _RENTING,
        '"env": {**env, **ports, ORDER_VARIABLE: request.order_marker},',
        '"env": {ORDER_VARIABLE: request.order_marker, **env, **ports},',
        (f"{_CREATE}::test_the_marker_wins_over_the_user_s_environment",),
    ),
    Mutant(
        "a start is sent again",
        _CLIENT,
        "                if not repeatable:\n                    raise\n",
        "",
        ("tests/vast/test_limits.py::test_start_reboot_and_recycle_are_sent_once",),
    ),
    Mutant(
        "a start without an answer had no effect",
        _CLIENT,
        "raise uncertain(request, error) if once and unsure(reply, error) else error",
        "raise error",
        ("tests/vast/test_errors.py::test_an_ambiguous_end_of_a_call_that_is_sent_once_is_uncertain",),
    ),
    Mutant(
        "a missing list is an empty one",
        _MODELS,
        '    if not isinstance(items, list):\n        raise Unreadable(f"no list of {name}")\n',
        "    if not isinstance(items, list):\n        return []\n",
        (
            f"{_LISTS}::test_a_list_that_may_lack_a_machine_is_no_list",
            "tests/tools/test_create_ends.py::test_a_gone_offer_is_not_replaced_where_the_list_fails_or_is_incomplete",
        ),
    ),
    Mutant(
        "a list that is too short is a list",
        _MARKET,
        "if total is not None and total != len(found):",
        "if False:",
        (
            "tests/tools/test_gate.py::test_an_incomplete_list_rents_nothing",
            "tests/tools/test_create_ends.py::test_a_gone_offer_is_not_replaced_where_the_list_fails_or_is_incomplete",
        ),
    ),
    Mutant(
        "the first page is the list",
        _MARKET,
        "            if token is None:\n                return\n",
        "            if True:\n                return\n",
        (f"{_LISTS}::test_all_pages_make_the_list", f"{_LISTS}::test_a_list_that_may_lack_a_machine_is_no_list"),
    ),
    Mutant(
        "a list that says nothing of more is a list",
        _MARKET,
        '            if "next_token" not in page:\n                raise _incomplete("the list does not say whether there is more")\n',
        "",
        (f"{_LISTS}::test_a_list_of_nothing_that_does_not_say_whether_there_is_more_is_no_list",),
    ),
    Mutant(
        "an unreadable row is left out",
        _MARKET,
        '        return [read(row) for row in models.rows(page, name)]\n    except Unreadable as broken:\n        raise _incomplete(f"a row can\'t be read: {broken}") from None\n',
        "        return [read(row) for row in models.rows(page, name)]\n    except Unreadable:\n        return []\n",
        (f"{_LISTS}::test_a_list_that_may_lack_a_machine_is_no_list",),
    ),
    Mutant(
        "any 404 is a machine that is gone",
        _MARKET,
        '            found = await self._client.call(request, models.single_instance)\n        except ProviderError as error:\n            if error.code == "no_such_instance":',
        "            found = await self._client.call(request, models.single_instance)\n        except ProviderError as error:\n            if error.status == 404:",
        (
            "tests/tools/test_destroy.py::test_with_a_key_that_stopped_working_the_end_is_unknown",
            "tests/vast/test_errors.py::test_a_bad_key_never_reads_as_a_machine_that_is_gone",
        ),
    ),
    Mutant(
        "an answer about another machine is about this one",
        _MARKET,
        "        if found is not None and found.id != instance_id:\n            raise ProviderError",
        "        if False:\n            raise ProviderError",
        (f"{_LISTS}::test_an_answer_that_is_not_about_this_instance_does_not_end_it",),
    ),
    Mutant(
        "the key is in the URL",
        _CLIENT,
        "tuple(request.query.items()))",
        '(*request.query.items(), ("api_key", self._key.get_secret_value())))',
        ("tests/vast/test_secrets.py::test_the_key_is_in_a_header_and_nowhere_else",),
    ),
    Mutant(
        "a write follows a redirect",
        _CLIENT,
        'if endpoint.method != "GET" or onward is None or not _same_origin(onward.url, self.base_url):',
        "if onward is None or not _same_origin(onward.url, self.base_url):",
        (_UNKNOWN,),
    ),
    Mutant(
        "a redirect leads to another host",
        _CLIENT,
        "or onward is None or not _same_origin(onward.url, self.base_url):",
        "or onward is None:",
        ("tests/vast/test_errors.py::test_no_redirect_leads_away_from_the_host",),
    ),
    Mutant(
        "the disk is not in the price",
        "server/vastai_workflow/vast/offers.py",
        '        "allocated_storage": float(query.disk_gb),\n',
        "",
        (
            "tests/vast/test_offers.py::test_every_search_asks_for_free_and_rentable_machines_with_this_disk_in_the_price",
        ),
    ),
    Mutant(
        "offers are not checked again",
        "server/vastai_workflow/vast/offers.py",
        "fitting = [offer for offer in found.values() if _fits(offer, query)]",
        "fitting = list(found.values())",
        ("tests/vast/test_offers.py::test_an_offer_that_was_not_asked_for_is_left_out",),
    ),
    Mutant(
        "money comes as a float",
        "server/vastai_workflow/vast/wire.py",
        "json.loads(text, parse_float=Decimal, parse_constant=_refuse)",
        "json.loads(text, parse_constant=_refuse)",
        ("tests/vast/test_models.py::test_a_machine_is_read_with_exact_prices_and_its_addresses", _LISTS),
    ),
    Mutant(
        "a float is taken by its bits",
        "server/vastai_workflow/domain/money.py",
        "else Decimal(str(value))",
        "else Decimal(value)",
        ("tests/domain/test_money.py::test_a_number_is_what_a_person_reads",),
    ),
    Mutant(
        "half a cent is rounded down",
        "server/vastai_workflow/domain/money.py",
        "return Rate(self.per_hour.quantize(_CENT, ROUND_CEILING))",
        "return Rate(self.per_hour.quantize(_CENT, ROUND_HALF_UP))",
        ("tests/domain/test_money.py::test_up_to_the_cent",),
    ),
)
